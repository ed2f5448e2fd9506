"""Where hostile inputs are let loose: a working directory with a treasure beside it, and what must not happen there."""

import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import copy, copytree
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from search.cli import main
from search.spec.study_spec import StudySpec
from search.storage.database import open_storage
from search.storage.location import StudyLocation
from search.verdict.predictions import save_predictions

SECRET = "hunter2-s3cr3t"
RUNS_CODE = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class")
"""What Python reports (`sys.audit`) when something is unpickled by its own machine, or starts a program."""
CONTROLS = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))} - {"\n"} | set("\u202e\u2066\u200f\u2028")
"""What moves a terminal's cursor, turns its text around, or ends a line."""


class Canary:
    """A pickle that leaves a file behind when it is loaded as code."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.file),)


@dataclass(frozen=True, slots=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


class Sandbox:
    """A working directory; beside it lies a treasure that nothing here has a reason to open, write or remove."""

    secret = SECRET

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / "work"
        self.outside = root / "outside"
        self.canary = root / "canary"
        self.work.mkdir()
        self.outside.mkdir()
        (self.outside / "treasure.toml").write_text("treasure")
        (self.outside / "x").mkdir()
        self.seen: list[str] = []
        self.before = self.files()

    @property
    def payload(self) -> Canary:
        return Canary(self.canary)

    def files(self) -> dict[str, bytes | None]:
        """Everything there, by its path."""
        return {
            str(path): path.read_bytes() if path.is_file() else None
            for path in self.root.rglob("*")
            # SQLite keeps these two beside a database while it is open.
            if not path.name.endswith((".db-wal", ".db-shm")) and path != self.canary
        }

    def arm(self) -> None:
        """What lies there from here on is the attacker's, and is to stay what it is."""
        self.before = self.files()
        self.seen.clear()

    def check(self, *, written: bool = False) -> None:
        """Nothing ran, nothing outside was touched, no password stands in a file; unless `written`, none is new."""
        assert not self.canary.exists(), "the payload ran"
        assert self.seen == []
        after = self.files()
        inside = str(self.work)
        assert {p: c for p, c in after.items() if not p.startswith(inside)} == {
            p: c for p, c in self.before.items() if not p.startswith(inside)
        }
        assert all(SECRET.encode() not in (content or b"") for content in after.values())
        if not written:
            assert after == self.before, "something was written"


_watched: list[Sandbox] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    for sandbox in _watched:
        if event.startswith(RUNS_CODE):
            sandbox.seen.append(f"{event} {arguments!r:.200}")
        elif event in ("open", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "sqlite3.connect"):
            named = [os.fsdecode(one) for one in arguments[:2] if isinstance(one, str | bytes)]
            # A link is followed where it is opened, and itself replaced or removed.
            places = map(os.path.realpath, named if event == "open" else map(os.path.dirname, named))
            if any(place.startswith(str(sandbox.outside)) for place in places):
                sandbox.seen.append(f"{event} {named}")


@pytest.fixture(scope="session", autouse=True)
def hearing() -> None:
    import search.report.dashboard
    import search.run
    import search.task.task  # noqa: F401  (what is imported later would be heard: torch asks for its libraries)

    sys.addaudithook(_hear)  # for the rest of the process: Python takes none of them back


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """The folders of one attack, watched until its test ends."""
    sandbox = Sandbox(tmp_path)
    monkeypatch.chdir(sandbox.work)

    def hangs(number: int, frame: object) -> None:
        raise RuntimeError("it hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(20)
    _watched.append(sandbox)
    yield sandbox
    _watched.remove(sandbox)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


Frostline = Callable[..., Said]


@pytest.fixture
def frostline(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Frostline:
    """The command line in this process; what it says is safe to show on a terminal, and no traceback."""

    def call(*arguments: str) -> Said:
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
        return Said(code, out, err)

    return call


SPEC = {
    "task": {"data": "digits", "sizes": [20, 40]},
    "model": {"backbone": "small_cnn"},
    "source": {"data": "digits-0-4"},
    "train": {"epochs": 4},
    "search": {"trials": 2},
    "confirm": {"repeats": 5},
}


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study, told to the database without any training."""
    out = tmp_path_factory.mktemp("told")
    location = StudyLocation.of("tiny", out=out, storage=None)
    location.folder.mkdir()
    storage = open_storage(location.url, create=True)
    spec = StudySpec.from_dict(SPEC, where="here").model_dump(mode="json", exclude_none=True)
    arms = [{"freeze_depth": 4, "head_lr": 0.01}, {"freeze_depth": 0, "head_lr": 0.003}]
    rng = np.random.default_rng(0)
    test = {
        "targets": np.arange(60) % 10,
        "classes": np.array([str(label) for label in range(10)]),
        "shown": np.arange(3),
        "thumbnails": np.zeros((3, 8, 8, 3), dtype=np.uint8),
    }
    distributions = {
        "freeze_depth": optuna.distributions.IntDistribution(0, 4),
        "head_lr": optuna.distributions.FloatDistribution(1e-4, 1.0),
    }

    def add(study: optuna.Study, params: dict[str, Any], attributes: dict[str, Any]) -> None:
        common = {"epochs": 4, "best_epoch": 3, "seconds": 1.5, "trainable_parameters": 650, "seed": 1}
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE,
                value=0.5,
                params=params,
                distributions=distributions,
                intermediate_values={0: 0.9, 1: 0.5},
                user_attrs=common | attributes,
            )
        )

    def open_study(name: str) -> optuna.Study:
        study = optuna.create_study(study_name=name, storage=storage, direction="minimize")
        for key, content in (("num_groups", 4), ("kind", "classification"), ("groups", list("abcd")), ("spec", spec)):
            study.set_user_attr(key, content)
        return study

    for size in (20, 40):
        study = open_study(location.explore_name(size))
        for params in arms:
            add(study, params, {"family": "?", "repeat": 0, "baseline": True})
    study = open_study(location.confirm_name)
    for size in (20, 40):
        for number, params in enumerate(arms):
            for repeat in range(1, 6):
                predicted = rng.dirichlet(np.ones(10), size=60).astype(np.float32)
                outcome = predicted.argmax(axis=1) == test["targets"]
                name = save_predictions(
                    location, len(study.trials), example_scores=outcome, predicted=predicted, test=test
                )
                scores = {"test_accuracy": float(outcome.mean()), "test_examples": 60, "predictions_file": name}
                add(study, params, {"size": size, "repeat": repeat, "source_trial": number} | scores)
    storage._backend.engine.dispose()  # which also brings SQLite's second file into the first
    return location.folder


class Poisoned:
    """A copy of that study, to write into as one may who can write to its database and its folder."""

    def __init__(self, told: Path, sandbox: Sandbox) -> None:
        self.folder = sandbox.work / "studies" / "tiny"
        self.told = told
        self.folder.mkdir(parents=True)
        copy(told / "study.db", self.folder)

    def outcomes(self) -> list[Path]:
        """The files of its confirm trials, the test set's last."""
        if not (self.folder / "confirm").exists():
            copytree(self.told / "confirm", self.folder / "confirm")
        return sorted((self.folder / "confirm").iterdir())

    def sql(self, statement: str, *arguments: object) -> None:
        connection = sqlite3.connect(self.folder / "study.db")
        with connection:
            connection.execute(statement, arguments)
        connection.close()

    def studies(self, key: str, content: Any) -> None:
        """Set an attribute of all studies; of what has a `text` that is stored, which need not be JSON."""
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
        for file in filter(lambda file: file.match(pattern), self.outcomes()):
            with np.load(file) as content:
                changed = {**content, **arrays}
            np.savez_compressed(file, **{name: array for name, array in changed.items() if array is not None})


def _json(content: Any) -> str:
    return content.text if hasattr(content, "text") else json.dumps(content)

    def rewrite(self, pattern: str, **arrays: Any) -> None:
        """Change arrays in the files of that pattern; None takes one away."""
        for file in filter(lambda file: file.match(pattern), self.outcomes()):
            with np.load(file) as content:
                changed = {**content, **arrays}
            np.savez_compressed(file, **{name: array for name, array in changed.items() if array is not None})


@pytest.fixture
def study(told: Path, sandbox: Sandbox) -> Poisoned:
    return Poisoned(told, sandbox)
