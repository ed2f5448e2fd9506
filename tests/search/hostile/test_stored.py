"""Databases that others can write to: read, never run, shown as text, or refused in one line."""

import csv
import json
import math
import re
import sys
import tomllib
from html.parser import HTMLParser
from io import StringIO
from itertools import product

import numpy as np
import pytest

from search.report.page import render, trials_csv
from search.storage.location import StudyLocation
from search.verdict.judge import judge_all
from search.verdict.load import load_results
from tests.search.hostile.sandbox import SPEC

CODE = {
    "task": {"data": "canary:fire", "sizes": [20]},
    "model": {"backbone": "canary:fire", "weights": "none"},
    "confirm": {"repeats": 5},
}
DEEP = b'{"a":' * 5000 + b"1" + b"}" * 5000
HTML = "</script></title><script>alert(1)</script><img src=x onerror=alert(1)>"
CONTROL = "\x1b[2J\x1b]0;owned\x07\r\n\u202eabc\x9b31m"

OF_STUDIES = {
    "train that is none": ("spec", {**CODE, "train": "augment"}),
    "an endless budget": ("spec", {**CODE, "search": {"trials": 10**18}}),
    "a number that is none": ("spec", {**CODE, "train": {"weight_decay": math.nan}}),
    "control characters": ("spec", {CONTROL: {CONTROL: CONTROL}}),
    "a huge text": ("spec", {**CODE, "search": {"sampler": "x" * 10**6}}),
    "no JSON": ("spec", b"{"),
    "deep JSON": ("spec", DEEP),
    "a huge number": ("num_groups", b"9" * 5000),
    "fewer groups than depths": ("num_groups", 2),
    "an unknown kind": ("kind", "<b>"),
    "groups of tables": ("groups", [{"a": 1}]),
    "fewer labels than none": ("all", -1),
    "an endless all": ("all", 10**400),
    "an all in words": ("all", "all"),
    "labels that are no number": ("labels", math.nan),
    "cross-validation in words": ("cross_validated", "cv"),
    "an unexplored size in words": ("unexplored", ["80"]),
    "an unexplored size of none": ("unexplored", [0]),
    "a baseline in words": ("baselines", ["linear probing"]),
    "a baseline of nothing": ("baselines", [{}]),
    "a baseline of code": ("baselines", [{"__class__": "os.system"}]),
    "a baseline below the input": ("baselines", [{"freeze_depth": -1}]),
    "a baseline beyond the groups": ("baselines", [{"freeze_depth": 5}]),
    "a baseline without end": ("baselines", [{"freeze_depth": 0, "head_lr": math.inf}]),
    "a table of baselines": ("baselines", {"freeze_depth": 0}),
    "endless baselines": ("baselines", [{"freeze_depth": 0}] * 10**5),
}
IGNORED = {
    "no labels": {"labels": 0, "all": 0},
    "as many labels as atoms": {"labels": 2**63 - 1, "all": 2**63 - 1},
    "every size unexplored": {"unexplored": [20, 40, 80]},
    "no baselines": {"baselines": []},
    "the same baseline twice": {"baselines": [{"freeze_depth": 0, "head_lr": 0.003}] * 2},
    "cross-validated": {"cross_validated": True},
}
"""Attributes that a study could have, but this one does not."""
OF_TRIALS = {
    "a huge repeat": ("repeat", 10**400),
    "NaN seconds": ("seconds", math.nan),
    "an accuracy beyond": ("test_accuracy", 1e308),
    "a reason that is none": ("reason", {"__reduce__": ["os.system", "id"]}),
    "a list of files": ("predictions_file", ["x.npz"]),
    "a baseline that is none": ("baseline", "yes"),
    "an origin below 0": ("source_trial", -1),
    "an origin of no labels": ("warm_started_from", 0),
    "test examples of none": ("test_examples", 0),
    "infinite guessing": ("test_trivial", math.inf),
    "deep JSON": ("reason", DEEP),
}
SQL = {
    "an unknown parameter": "update trial_params set param_name = '__class__' where param_name = 'head_lr'",
    "an unknown distribution": """update trial_params set distribution_json =
        '{"name": "os.system", "attributes": {}}'""",
    "two objectives": "insert into trial_values (trial_id, objective, value, value_type)"
    " select trial_id, 1, 0.5, 'FINITE' from trials",
    "an unknown state": "update trials set state = 'OWNED'",
    "no trials table": "drop table trials",
}
READERS = {
    "report": ["report", "tiny"],
    "best": ["best", "tiny", "--size", "20"],
    "list": ["list"],
    "dashboard": ["dashboard", "tiny", "--port", "0"],
    "run": ["run", "tiny.toml"],
}


@pytest.fixture(autouse=True)
def bait(sandbox, monkeypatch):
    """Code that a stored spec may name, where Python would find it."""
    tables = (
        f"[{table}]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in keys.items()) for table, keys in SPEC.items()
    )
    (sandbox.work / "tiny.toml").write_text("\n".join(tables))
    (sandbox.work / "canary.py").write_text(f"import os\nos.mkdir({str(sandbox.canary)!r})\n")
    monkeypatch.syspath_prepend(str(sandbox.work))


def refused(sandbox, frostline, command="report"):
    """Check for a refusal in one line, which `list` shows before it goes on."""
    sandbox.arm()
    output = frostline(*READERS[command])
    assert output.code == 2 or command == "list"
    assert output.code == 2 or (output.out.startswith("tiny: ") and output.out.count("\n") == 1)
    assert "finished trials" not in output.out
    sandbox.check()


@pytest.mark.parametrize(
    ("command", "poison"),
    [("best", "sql"), ("list", "trials"), *product(("dashboard", "run"), ("studies", "trials", "sql"))],
)
def test_all_readers_refuse_alike(study, sandbox, frostline, command, poison):
    {
        "studies": lambda: study.studies("spec", 5),
        "trials": lambda: study.trials("repeat", -1),
        "sql": lambda: study.sql(SQL["two objectives"]),
    }[poison]()
    refused(sandbox, frostline, command)


@pytest.mark.parametrize("attack", OF_STUDIES)
def test_study_with_foreign_attributes_is_refused(study, sandbox, frostline, attack):
    study.studies(*OF_STUDIES[attack])
    refused(sandbox, frostline)


@pytest.mark.parametrize("change", IGNORED)
def test_study_with_attributes_that_do_not_fit_is_read(study, sandbox, frostline, change):
    for key, content in IGNORED[change].items():
        study.studies(key, content)
    sandbox.arm()
    for command in ("list", "best"):
        frostline(*READERS[command])
    assert frostline("report", "tiny").code == 0
    sandbox.check(written=True)


@pytest.mark.parametrize("attack", OF_TRIALS)
def test_trial_with_foreign_attributes_is_refused(study, sandbox, frostline, attack):
    study.trials(*OF_TRIALS[attack])
    refused(sandbox, frostline)


@pytest.mark.parametrize("attack", SQL)
def test_database_with_foreign_values_is_refused(study, sandbox, frostline, attack):
    study.sql(SQL[attack])
    refused(sandbox, frostline)


@pytest.mark.parametrize("command", ["report", "best", "list"])
def test_code_in_a_stored_study_is_not_imported(study, sandbox, frostline, command):
    study.studies("spec", CODE)
    sandbox.arm()
    frostline(*READERS[command])
    assert "canary" not in sys.modules
    sandbox.check(written=True)


@pytest.mark.parametrize("name", ["../outside/x", "x" * 10**6, CONTROL, "tiny/n=0"])
def test_study_of_a_foreign_name_is_not_listed(study, sandbox, frostline, name):
    study.sql("update studies set study_name = ? where study_name = 'tiny/n=20'", f"{name}/n=20")
    study.sql("update studies set study_name = ? where study_name = 'tiny/confirm'", f"{name}/confirm"[:500])
    sandbox.arm()
    output = frostline("list", "--storage", "sqlite:///studies/tiny/study.db")
    assert [line.partition(":")[0] for line in output.out.splitlines()] in (["tiny"], [name, "tiny"])
    sandbox.check()


class Page(HTMLParser):
    """The tags of a page, and the names of their attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(re.sub(r"(<script[^>]*>).*?</script>", r"\1</script>", text, flags=re.DOTALL))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attributes]


@pytest.fixture(scope="module")
def plain(original):
    """Return the page of the study before anybody wrote into it."""
    results = load_results(StudyLocation.of("tiny", out=original.parent, storage=None))
    return Page(render(results, judge_all(results)))


@pytest.mark.parametrize("text", [HTML, CONTROL, '" onload="alert(1)', "x" * 10**6, "{{7*7}}"])
def test_text_stays_text_in_the_page(study, sandbox, frostline, plain, text):
    study.trials("reason", text)
    study.studies("groups", [text] * 4)
    study.studies("spec", {**CODE, "task": {"data": text[: 10**5], "sizes": [20, 40]}, "search": {"trials": 2}})
    study.rewrite("test-*.npz", classes=np.array([text[:1000]] * 10))
    sandbox.arm()
    assert frostline("report", "tiny").code == 0
    content = (study.folder / "report.html").read_text()
    found = Page(content)
    assert set(found.tags) - set(plain.tags) <= {"ul", "li"}
    assert set(found.attributes) - set(plain.attributes) <= {"open"}
    assert HTML not in content
    assert "exploring trial 0, " in content
    assert "Precision and recall" in content
    assert len(content) < 10**7
    sandbox.check(written=True)


@pytest.mark.parametrize("text", ["+1+1", "-1+1", "@SUM(1)", "\t=1", "=1,=2\n=3"])
def test_no_cell_of_the_csv_begins_a_formula(study, text):
    study.trials("reason", text)
    rows = list(csv.DictReader(StringIO(trials_csv(study.results), newline="")))
    assert len(rows) == 34
    for row in rows:
        for cell in row.values():
            assert not cell.startswith(("=", "+", "@", "\t", "\r")), cell
            assert not cell.startswith("-") or float(cell) < 0
        assert text.strip("\t")[-2:] in row["reason"].replace("\\n", "\n")


@pytest.mark.parametrize("text", [HTML + CONTROL, '"\n[strategy]\nhead_lr = 9\n"""\nimport os\n"""\\'])
@pytest.mark.parametrize("form", ["toml", "json", "python"])
def test_hostile_group_names_leave_the_strategy_alone(study, frostline, form, text):
    study.studies("groups", [text] * 4)
    printed = frostline("best", "tiny", "--size", "20", "--format", form).out
    if form == "python":
        made = {}
        exec(compile(printed, "printed", "exec"), made)
        assert made["strategy"].head_lr in (0.01, 0.003)
        assert set(made) == {"__builtins__", "FreezingStrategy", "strategy"}
        assert all(line[:1] in "#fs )\n" for line in printed.splitlines() if line)
    else:
        table = (tomllib if form == "toml" else json).loads(printed)
        assert table["strategy"]["head_lr"] in (0.01, 0.003)
        assert len(table["provenance"]["layer_group_names"]) == 4


def test_untouched_study_is_read(study, frostline):
    """The control: the study that is attacked above is whole before."""
    assert "freeze_depth" in frostline(*READERS["best"]).out
    assert "confirmed: 20, 40, 80" in frostline("list").out
