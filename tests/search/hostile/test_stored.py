"""What may stand in a database that others can write to: read, never run, shown as text, or refused in one line."""

import csv
import json
import math
import pickle
import re
import sys
import tomllib
from dataclasses import dataclass
from html.parser import HTMLParser
from io import StringIO

import numpy as np
import pytest

from search.report.page import render, trials_csv
from search.storage.location import StudyLocation
from search.verdict.load import load_results

CODE = {
    "task": {"data": "canary:fire", "sizes": [20]},
    "model": {"backbone": "canary:fire", "weights": "none"},
    "confirm": {"repeats": 5},
}
DEEP = '{"a":' * 5000 + "1" + "}" * 5000
HTML = "</script></title><script>alert(1)</script><img src=x onerror=alert(1)>"
CONTROL = "\x1b[2J\x1b]0;owned\x07\r\n\u202eabc\x9b31m"


@dataclass(frozen=True)
class Raw:
    """Text as it stands in the database."""

    text: str


OF_STUDIES = {
    "a spec that is none": ("spec", 5),
    "a spec that is a list": ("spec", ["task"]),
    "a spec that is empty": ("spec", {}),
    "a spec that is null": ("spec", None),
    "a table that is none": ("spec", {"task": 5, "model": 5}),
    "train that is none": ("spec", {**CODE, "train": "augment"}),
    "an unknown table": ("spec", {**CODE, "__class__": {}}),
    "an endless budget": ("spec", {**CODE, "search": {"trials": 10**18}}),
    "endless epochs": ("spec", {**CODE, "train": {"epochs": 10**30}}),
    "a number that is none": ("spec", {**CODE, "train": {"weight_decay": math.nan}}),
    "control characters": ("spec", {CONTROL: {CONTROL: CONTROL}}),
    "a huge text": ("spec", {**CODE, "search": {"sampler": "x" * 10**6}}),
    "no JSON": ("spec", Raw("{")),
    "deep JSON": ("spec", Raw(DEEP)),
    "a pickle": ("spec", Raw(str(pickle.dumps(print)))),
    "a huge number": ("num_groups", Raw("9" * 5000)),
    "too many groups": ("num_groups", 10**9),
    "no groups": ("num_groups", 0),
    "negative groups": ("num_groups", -4),
    "groups in words": ("num_groups", "__import__('os')"),
    "NaN groups": ("num_groups", math.nan),
    "fewer groups than depths": ("num_groups", 2),
    "an unknown kind": ("kind", "<b>"),
    "a kind that is none": ("kind", {"a": 1}),
    "groups that are none": ("groups", 7),
    "groups of tables": ("groups", [{"a": 1}]),
}
OF_TRIALS = {
    "a size in words": ("size", "20; drop table studies"),
    "a negative size": ("size", -20),
    "a huge size": ("size", 10**400),
    "a negative repeat": ("repeat", -1),
    "a repeat in words": ("repeat", "../../x"),
    "seconds in words": ("seconds", "<b>"),
    "negative seconds": ("seconds", -1.0),
    "NaN seconds": ("seconds", math.nan),
    "infinite seconds": ("seconds", math.inf),
    "a list of seconds": ("seconds", [1.0]),
    "an accuracy beyond": ("test_accuracy", 1e308),
    "a negative accuracy": ("test_accuracy", -0.5),
    "an accuracy in words": ("test_accuracy", "1.0"),
    "no examples": ("test_examples", 0),
    "a reason that is none": ("reason", {"__reduce__": ["os.system", "id"]}),
    "outcomes that are none": ("predictions_file", ["x.npz"]),
    "epochs in words": ("epochs", "4"),
    "a seed that is none": ("seed", {}),
    "a huge seed": ("seed", 10**40),
    "a baseline that is none": ("baseline", "yes"),
    "no JSON": ("reason", Raw("{'a'")),
    "deep JSON": ("reason", Raw(DEEP)),
}
SQL = {
    "a parameter beyond": "update trial_params set param_value = 1e308 where param_name = 'freeze_depth'",
    "a negative depth": "update trial_params set param_value = -1 where param_name = 'freeze_depth'",
    "an unknown parameter": "update trial_params set param_name = '__class__' where param_name = 'head_lr'",
    "no rate": "update trial_params set param_value = 0 where param_name = 'head_lr'",
    "an infinite rate": "update trial_params set param_value = 9e999 where param_name = 'head_lr'",
    "a distribution that is none": "update trial_params set distribution_json = '{}'",
    "an unknown distribution": """update trial_params set distribution_json =
        '{"name": "os.system", "attributes": {}}'""",
    "a distribution of code": """update trial_params set distribution_json =
        '{"name": "CategoricalDistribution", "attributes": {"choices": ["__import__(1)"]}}'""",
    "two objectives": "insert into trial_values (trial_id, objective, value, value_type)"
    " select trial_id, 1, 0.5, 'FINITE' from trials",
    "an unknown state": "update trials set state = 'OWNED'",
    "a value that is none": "update trial_values set value_type = 'OWNED'",
    "no trials table": "drop table trials",
    "no attributes table": "drop table trial_user_attributes",
}
READERS = {
    "report": ["report", "tiny"],
    "best": ["best", "tiny", "--size", "20"],
    "list": ["list"],
    "dashboard": ["dashboard", "tiny", "--port", "0"],
    "run": ["run", "tiny.toml"],
}
STUDY_FILE = """
[task]
data = "digits"
sizes = [20, 40]
[model]
backbone = "small_cnn"
[source]
data = "digits-0-4"
[train]
epochs = 4
[search]
trials = 2
[confirm]
repeats = 5
"""


@pytest.fixture(autouse=True)
def bait(sandbox, monkeypatch):
    """Code that a stored spec may name, where Python would find it."""
    (sandbox.work / "tiny.toml").write_text(STUDY_FILE)
    (sandbox.work / "canary.py").write_text(f"import os\nos.mkdir({str(sandbox.canary)!r})\n")
    monkeypatch.syspath_prepend(str(sandbox.work))


def refused(sandbox, frostline, command="report"):
    """The reader refuses the study in one line; `list` then goes on to the next."""
    sandbox.arm()
    said = frostline(*READERS[command])
    assert said.code == 2 or command == "list"
    assert said.code == 2 or (said.out.startswith("tiny: ") and said.out.count("\n") == 1)
    assert "finished trials" not in said.out
    sandbox.check()


@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize("poison", ["studies", "trials", "sql"])
def test_all_readers_refuse_alike(study, sandbox, frostline, command, poison):
    {
        "studies": lambda: study.studies("spec", 5),
        "trials": lambda: study.trials("repeat", "../../x"),
        "sql": lambda: study.sql(SQL["two objectives"]),
    }[poison]()
    refused(sandbox, frostline, command)


@pytest.mark.parametrize("attack", OF_STUDIES)
def test_a_study_that_is_none_of_ours_is_refused_in_one_line(study, sandbox, frostline, attack):
    study.studies(*OF_STUDIES[attack])
    refused(sandbox, frostline)


@pytest.mark.parametrize("attack", OF_TRIALS)
def test_a_trial_that_is_none_of_ours_is_refused_in_one_line(study, sandbox, frostline, attack):
    study.trials(*OF_TRIALS[attack])
    refused(sandbox, frostline)


@pytest.mark.parametrize("attack", SQL)
def test_a_database_that_was_tampered_with_is_refused_in_one_line(study, sandbox, frostline, attack):
    study.sql(SQL[attack])
    refused(sandbox, frostline)


@pytest.mark.parametrize("command", ["report", "best", "list"])
def test_code_that_a_stored_study_names_is_not_imported(study, sandbox, frostline, command):
    study.studies("spec", CODE)
    sandbox.arm()
    frostline(*READERS[command])
    assert "canary" not in sys.modules
    sandbox.check(written=True)


@pytest.mark.parametrize(
    "name",
    [
        "../outside/x",
        "/etc/passwd",
        "..",
        "",
        "x\0y",
        "x" * 10**6,
        CONTROL,
        "tiny/../../x",
        "a/n=20",
        "n=20",
        "tiny/n=0",
    ],
)
def test_a_study_of_a_foreign_name_is_not_ours(study, sandbox, frostline, name):
    study.sql("update studies set study_name = ? where study_name = 'tiny/n=20'", f"{name}/n=20")
    study.sql("update studies set study_name = ? where study_name = 'tiny/confirm'", f"{name}/confirm"[:500])
    sandbox.arm()
    said = frostline("list", "--storage", "sqlite:///studies/tiny/study.db")
    assert [line.partition(":")[0] for line in said.out.splitlines()] in (["tiny"], [name, "tiny"])
    sandbox.check()


class Page(HTMLParser):
    """The tags of a page, and what stands in its attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(re.sub(r"(<script[^>]*>).*?</script>", r"\1</script>", text, flags=re.DOTALL))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attributes]


@pytest.fixture(scope="module")
def plain(told):
    """The page of the study before anybody wrote into it."""
    return Page(render(load_results(StudyLocation.of("tiny", out=told.parent, storage=None))))


@pytest.mark.parametrize("text", [HTML, CONTROL, '" onload="alert(1)', "javascript:alert(1)", "x" * 10**6, "{{7*7}}"])
def test_a_text_stands_in_the_page_as_text(study, sandbox, frostline, plain, text):
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


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(1)", "\t=1", '"=1', "=1,=2\n=3"])
def test_no_cell_of_the_csv_begins_a_formula(study, text):
    study.trials("reason", text)
    results = load_results(StudyLocation.of("tiny", out=study.folder.parent, storage=None))
    rows = list(csv.DictReader(StringIO(trials_csv(results), newline="")))
    assert len(rows) == 24
    for row in rows:
        for cell in row.values():
            assert not cell.startswith(("=", "+", "@", "\t", "\r")), cell
            assert not cell.startswith("-") or float(cell) < 0
        assert text.strip('"\t')[-2:] in row["reason"].replace("\\n", "\n")


@pytest.mark.parametrize("text", [HTML, CONTROL, '"\n[strategy]\nhead_lr = 9', "'''", "\\", '"""\nimport os\n"""'])
@pytest.mark.parametrize("form", ["toml", "json", "python"])
def test_a_strategy_that_is_printed_is_that_strategy_whatever_its_groups_are_called(study, frostline, form, text):
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


def test_the_untouched_study_is_read(study, frostline):
    # The control: what is attacked above is whole before it is.
    assert "freeze_depth" in frostline(*READERS["best"]).out
    assert "confirmed: 20, 40" in frostline("list").out
