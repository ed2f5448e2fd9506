"""Impossible names of studies: on the command line, as a study file's stem, in the Python interface."""

import pytest
from typer.main import get_command

import search.report.dashboard
from search import best_strategy
from search.cli import app
from search.errors import FrostlineError
from tests.search.hostile.sandbox import one_line

NAMES = {
    "empty": "",
    "parents": "../../outside/x",
    "nul": "a\0b",
    "newline": "tiny\n",
    "escape": "\x1b[2J\x1b]0;x\x07",
    "quotes": "tiny'; drop table studies; --\"",
    "format": "%s%n{0}{SCHEMA_VERSION}",
    "long": "x" * 600,
    "right to left": "abc\u202etxt.exe",
    "surrogate": "\udcff",
    "leading dash": "-rf",
    "hidden": ".tiny",
}
FEW = ["parents", "nul", "escape", "surrogate"]
"""Names that fail for different reasons: a path, no path at all, unsafe to print, impossible to print."""
COMMANDS = {
    "run": ["run"],
    "dry run": ["run", "--dry-run"],
    "groups": ["groups"],
    "best": ["best", "--size", "20"],
    "dashboard": ["dashboard", "--port", "0"],
    "new": ["new"],
}


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    def serve(*arguments, **options):
        raise AssertionError("the dashboard was served")

    monkeypatch.setattr(search.report.dashboard, "make_server", serve)


@pytest.mark.parametrize("name", NAMES)
def test_impossible_name_is_refused(sandbox, frostline, name):
    sandbox.arm()
    assert frostline("report", NAMES[name]).code == 2
    sandbox.check()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_impossible_names(sandbox, frostline, command):
    sandbox.arm()
    for name in FEW:
        assert frostline(*COMMANDS[command], NAMES[name]).code == 2
    sandbox.check()


@pytest.mark.parametrize("name", ["parents", "escape"])
def test_name_is_refused_with_a_database_of_ones_own(study, sandbox, frostline, name):
    """The study's results go to OUT/NAME whatever its database is: a path would carry them elsewhere."""
    sandbox.arm()
    assert frostline("report", "--storage", "sqlite:///studies/tiny/study.db", "--", NAMES[name]).code == 2
    sandbox.check()


@pytest.mark.parametrize("name", ["newline", "escape", "surrogate"])
def test_study_file_with_an_impossible_stem_is_refused(sandbox, frostline, name):
    (sandbox.work / f"{NAMES[name]}.toml").write_text("[task]\n")
    sandbox.arm()
    assert frostline("run", "--", f"{NAMES[name]}.toml").code == 2
    assert frostline("new", "--", f"{NAMES[name]}.toml").code == 2
    sandbox.check()


@pytest.mark.parametrize("name", ["parents", "nul"])
def test_python_interface_refuses_impossible_names(sandbox, name):
    sandbox.arm()
    with pytest.raises(FrostlineError) as caught:
        best_strategy(NAMES[name], size=20)
    one_line(caught.value)
    sandbox.check()


@pytest.mark.parametrize("name", ["newline", "surrogate", "hidden"])
def test_folder_of_an_impossible_name_is_not_listed(study, sandbox, frostline, name):
    study.folder.rename(study.folder.parent / NAMES[name])
    sandbox.arm()
    assert "No studies in" in frostline("list").out
    sandbox.check()


def test_every_command_that_takes_a_name_is_tried():
    named = {
        n for n, c in get_command(app).commands.items() if any(p.name in ("study", "spec", "name") for p in c.params)
    }
    assert named <= {words[0] for words in COMMANDS.values()} | {"report", "worker"}
