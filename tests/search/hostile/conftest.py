"""Fixtures for hostile inputs: the command line in this process, and a study that others can write to.

The rules: nothing runs, nothing leaks, nothing outside the folder is touched, an error is one line and exit code 2.
"""

import json
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copy, copytree
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import create_trial

from search.cli import main
from search.spec.study_spec import StudySpec
from search.storage.database import open_storage
from search.storage.location import StudyLocation
from search.verdict.load import load_results
from search.verdict.predictions import save_predictions
from search.verdict.results import Results
from tests.search.hostile.sandbox import CONTROLS, SECRET, SPEC, WATCHED, Output, Sandbox, hear

HANG_SECONDS = 300
STRATEGIES = [{"freeze_depth": 4, "head_lr": 0.01}, {"freeze_depth": 0, "head_lr": 0.003}]
FACTS = {
    "num_groups": 4,
    "kind": "classification",
    "groups": list("abcd"),
    "labels": 80,
    "all": 80,
    "cross_validated": False,
    "unexplored": [80],
    "baselines": STRATEGIES,
}
"""Attributes of the study that is attacked: 80 labels in all, so that none is left to search by at that size."""


@pytest.fixture(scope="session", autouse=True)
def hearing() -> None:
    import search.report.dashboard
    import search.run
    import search.task.task  # noqa: F401  (a later import would be heard: torch asks for its libraries)

    sys.addaudithook(hear)  # for the rest of the process: Python removes no audit hook


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Make the folders of one attack, and watch them until its test ends."""
    sandbox = Sandbox(tmp_path)
    monkeypatch.chdir(sandbox.work)

    def hangs(number: int, frame: object) -> None:
        pytest.fail("it hangs")  # no `Exception`, which a reader might take for a broken file

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(HANG_SECONDS)
    WATCHED.append(sandbox)
    yield sandbox
    WATCHED.remove(sandbox)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


Frostline = Callable[..., Output]


@pytest.fixture
def frostline(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Frostline:
    """Run the command in this process; check for safe output, one-line errors, exit code 2."""

    def call(*arguments: str) -> Output:
        monkeypatch.setattr(sys, "argv", ["frostline", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert SECRET not in out + err
        assert not CONTROLS & set(out + err), "control characters on the terminal"
        code = ended.value.code or 0
        if code:
            assert (code, err.count("\n"), out) == (2, 1, ""), (code, out, err)
            assert len(err) < 3000
        return Output(code, out, err)

    return call


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a finished study to a database without any training; return its folder."""
    location = StudyLocation.of("tiny", out=tmp_path_factory.mktemp("original"), storage=None)
    location.folder.mkdir()
    storage = open_storage(location.database, create=True)
    spec = StudySpec.from_dict(SPEC, where="here").model_dump(mode="json", exclude_none=True)
    rng = np.random.default_rng(0)
    test = {
        "targets": np.arange(60) % 10,
        "groups": np.arange(60) // 3,
        "classes": np.array([str(label) for label in range(10)]),
        "shown": np.arange(3),
        "thumbnails": np.zeros((3, 8, 8, 3), dtype=np.uint8),
    }
    distributions = {
        "freeze_depth": optuna.distributions.IntDistribution(0, 4),
        "head_lr": optuna.distributions.FloatDistribution(1e-4, 1.0),
    }

    def add(study: optuna.Study, params: dict[str, Any], attributes: dict[str, Any]) -> None:
        common = {"epochs": 4, "seconds": 1.5, "trainable_parameters": 650, "seed": 1}
        known = {"value": 0.5, "intermediate_values": {0: 0.9, 1: 0.5}, "user_attrs": common | attributes}
        study.add_trial(create_trial(params=params, distributions=distributions, **known))

    def open_study(name: str) -> optuna.Study:
        study = optuna.create_study(study_name=name, storage=storage, direction="maximize")
        for key, content in FACTS.items():
            study.set_user_attr(key, content)
        study.set_user_attr("spec", spec)
        return study

    for size in (20, 40):
        study = open_study(location.explore_name(size))
        for params in STRATEGIES:
            add(study, params, {"family": "?", "repeat": 0, "baseline": True})
    open_study(location.explore_name(80))
    study = open_study(location.confirm_name)
    for size in (20, 40, 80):
        for number, params in enumerate(STRATEGIES):
            for repeat in range(1, 6):
                predicted = rng.dirichlet(np.ones(10), size=60).astype(np.float32)
                correct = predicted.argmax(axis=1) == test["targets"]
                name = save_predictions(
                    location, len(study.trials), example_scores=correct, predicted=predicted, tested=np.arange(60),
                    test=test,
                )  # fmt: skip
                scores = {"test_accuracy": float(correct.mean()), "test_examples": 60, "predictions_file": name}
                origin = {"baseline": True} if size == 80 else {"source_trial": number}
                add(study, params, {"size": size, "repeat": repeat} | origin | scores)
    storage._backend.engine.dispose()  # which also merges SQLite's second file into the first
    return location.folder


class Poisoned:
    """A copy of that study, open to everyone who can write to its database and its folder."""

    def __init__(self, original: Path, sandbox: Sandbox) -> None:
        self.folder = sandbox.work / "studies" / "tiny"
        self.original = original
        self.folder.mkdir(parents=True)
        copy(original / "study.db", self.folder)

    @property
    def results(self) -> Results:
        return load_results(StudyLocation.of("tiny", out=self.folder.parent, storage=None))

    def files(self) -> list[Path]:
        """List the predictions files of its confirm trials, then that of the test set."""
        if not (self.folder / "confirm").exists():
            copytree(self.original / "confirm", self.folder / "confirm")
        return sorted((self.folder / "confirm").iterdir())

    def sql(self, statement: str, *arguments: object) -> None:
        connection = sqlite3.connect(self.folder / "study.db")
        with connection:
            connection.execute(statement, arguments)
        connection.close()

    def studies(self, key: str, content: Any) -> None:
        """Set an attribute of all studies; bytes are stored as they are, and need not be JSON."""
        self.sql("update study_user_attributes set value_json = ? where key = ?", _json(content), key)

    def trials(self, key: str, content: Any) -> None:
        """Set an attribute of all trials."""
        self.sql("delete from trial_user_attributes where key = ?", key)
        self.sql(
            "insert into trial_user_attributes (trial_id, key, value_json) select trial_id, ?, ? from trials",
            key,
            _json(content),
        )

    def rewrite(self, pattern: str, **arrays: Any) -> None:
        """Change arrays in the files of that pattern; None takes one away."""
        for file in filter(lambda file: file.match(pattern), self.files()):
            with np.load(file) as content:
                changed = {**content, **arrays}
            np.savez_compressed(file, **{name: array for name, array in changed.items() if array is not None})


def _json(content: Any) -> str:
    return content.decode() if isinstance(content, bytes) else json.dumps(content)


@pytest.fixture
def study(original: Path, sandbox: Sandbox) -> Poisoned:
    return Poisoned(original, sandbox)
