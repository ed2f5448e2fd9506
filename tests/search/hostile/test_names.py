"""Names of studies that are none: on the command line, as a study file's stem, as the Python interface takes them."""

import pytest
from typer.main import get_command

import search.report.dashboard
from search import best_strategy
from search.cli import app
from search.errors import FrostlineError

NAMES = {
    "empty": "",
    "dot": ".",
    "parent": "..",
    "parents": "../../outside/x",
    "absolute": "/etc/passwd",
    "slash": "a/b",
    "backslash": "..\\..\\x",
    "nul": "a\0b",
    "newline": "a\nb",
    "carriage return": "a\rb",
    "escape": "\x1b[2J\x1b]0;x\x07",
    "bell": "\x07",
    "single quote": "a'b",
    "double quote": 'a"b',
    "sql": "tiny'; drop table studies; --",
    "like": "%",
    "html": "<script>alert(1)</script>",
    "entity": "&lt;img src=x&gt;",
    "shell": "${HOME}`id`$(id)",
    "format": "%s%n{0}{SCHEMA_VERSION}",
    "long": "x" * 600,
    "long path": "../" * 400 + "x",
    "right to left": "abc\u202etxt.exe",
    "combining": "e\u0301" * 40,
    "zero width": "ti\u200bny",
    "emoji": "\U0001f600",
    "surrogate": "\udcff",
    "look-alike": "t\u0456ny",
    "space": " ",
    "trailing space": "tiny ",
    "leading dash": "-rf",
    "hidden": ".tiny",
    "url": "sqlite:///x.db",
    "code": "os:system",
    "tilde": "~root/x",
}
COMMANDS = {
    "run": ["run"],
    "dry run": ["run", "--dry-run"],
    "groups": ["groups"],
    "report": ["report"],
    "best": ["best", "--size", "20"],
    "dashboard": ["dashboard", "--port", "0"],
    "new": ["new"],
}


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    def serve(*arguments, **options):
        raise AssertionError("the dashboard was served")

    monkeypatch.setattr(search.report.dashboard, "make_server", serve)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_none_is_refused_in_one_line(sandbox, frostline, name, command):
    sandbox.arm()
    said = frostline(*COMMANDS[command], NAMES[name])
    assert said.code == 2
    sandbox.check()


@pytest.mark.parametrize("name", NAMES)
def test_so_it_is_in_a_database_of_ones_own(study, sandbox, frostline, name):
    # Results of a study go to OUT/NAME whatever its database: a name that is a path would carry them elsewhere.
    sandbox.arm()
    said = frostline("report", "--storage", "sqlite:///studies/tiny/study.db", "--", NAMES[name])
    assert said.code == 2
    sandbox.check()


@pytest.mark.parametrize("name", [name for name in NAMES if "/" not in NAMES[name] and "\0" not in NAMES[name]])
def test_a_study_file_of_that_name_is_refused(sandbox, frostline, name):
    try:
        (sandbox.work / f"{NAMES[name]}.toml").write_text("[task]\n")
    except OSError:
        pytest.skip("this system has no such file")
    sandbox.arm()
    assert frostline("run", "--", f"{NAMES[name]}.toml").code == 2
    assert frostline("new", "--", f"{NAMES[name]}.toml").code == 2
    sandbox.check()


@pytest.mark.parametrize("name", NAMES)
def test_the_python_interface_refuses_it(sandbox, name):
    sandbox.arm()
    with pytest.raises(FrostlineError) as caught:
        best_strategy(NAMES[name], size=20)
    assert "\n" not in str(caught.value)
    sandbox.check()


@pytest.mark.parametrize("name", ["CON", "nul", "aux.txt", "tiny.", "a" * 100, "_"])
def test_a_name_that_only_looks_odd_is_just_one_that_is_not_there(sandbox, frostline, name):
    sandbox.arm()
    assert "There is no study" in frostline("report", name).err
    sandbox.check()


@pytest.mark.parametrize("name", [name for name in NAMES if "/" not in NAMES[name] and "\0" not in NAMES[name]])
def test_a_folder_of_that_name_is_not_taken_for_a_study(study, sandbox, frostline, name):
    folder = study.folder.parent / NAMES[name]
    try:
        study.folder.rename(folder)
    except (OSError, ValueError):
        pytest.skip("this system has no such folder")
    sandbox.arm()
    assert "No studies in" in frostline("list").out
    sandbox.check()


def test_every_command_that_takes_a_name_was_tried():
    named = {
        n for n, c in get_command(app).commands.items() if any(p.name in ("study", "spec", "name") for p in c.params)
    }
    assert named <= {words[0] for words in COMMANDS.values()} | {"worker"}
