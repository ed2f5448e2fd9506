"""A trial's checkpoint: one file, written at epoch ends, from which it goes on if its process dies.

checkpoints/000012-3f2a9c01.ckpt                a trial's, named in its user attribute "checkpoint"
checkpoints/000012-3f2a9c01.ckpt.<8>.partial    one that is being written, or that a killed process left
"""

import inspect
import random
import re
import time
import zipfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import lightning
import numpy as np
import optuna
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from optuna.trial import FrozenTrial

from search.digest import digest
from search.files import replacing
from search.storage.location import StudyLocation
from search.user_code import one_line

T = TypeVar("T")

EVERY = 30.0
"""Seconds between two checkpoints of a trial, and before its first: a shorter trial simply starts again."""
COST = 0.02
"""The share of a run's time that its checkpoints may take: those of a large network are further apart."""
_OURS = "frostline"
"""Where a checkpoint says what it is one of."""


class RngState(Callback):
    """The global random streams (torch's, numpy's, Python's) as a part of a checkpoint.

    They are put back when the next epoch starts: what sets up a fit may draw from them too. To stand before any
    callback that draws.
    """

    def __init__(self) -> None:
        self._saved: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        numpy = np.random.get_state(legacy=False)
        numpy["state"]["key"] = numpy["state"]["key"].tolist()
        return {"torch": torch.get_rng_state(), "numpy": numpy, "python": random.getstate()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._saved = state_dict

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._saved is not None:
            torch.set_rng_state(self._saved["torch"])
            np.random.set_state(self._saved["numpy"])
            random.setstate(self._saved["python"])
            self._saved = None


class TrialCheckpoint(Checkpoint):
    """All that the rest of a trial's run depends on, written anew at epoch ends at least `EVERY` seconds apart.

    That is what Lightning saves - parameters, buffers, the optimizer, the loops, each callback's state - with the
    seconds spent so far. What a LightningModule of the user's own keeps elsewhere is for its `on_save_checkpoint`.
    It is a `Checkpoint`, so that at an epoch's end it has its turn when all other callbacks and the module had theirs.

    A file that is broken, of other code or of another run is not gone on from, nor is one that would execute anything.
    reported: the last epoch whose value is stored, -1 for none: no checkpoint can be of a later one. made_by: what
    the run is beside its code. note: stores the file's name, which happens before there is a file.
    """

    def __init__(
        self,
        location: StudyLocation,
        trial: optuna.Trial,
        *,
        reported: int,
        made_by: tuple[str | int, ...],
        note: Callable[[str], None],
    ) -> None:
        known = _file(location, trial)
        self.file = known or _folder(location) / f"{trial.number:06}-{uuid4().hex[:8]}.ckpt"
        self._pending = known if known is not None and known.exists() else None  # to go on from, until that is done
        self.spent = 0.0
        self._reported = reported
        self._made_by = made_by
        self._code: tuple[str | bytes, ...] = ()
        self._note: Callable[[str], None] | None = note if known is None else None
        self._started = time.perf_counter()
        self._due = 0.0
        self._said = False

    @property
    def seconds(self) -> float:
        """What the run has taken so far, in this process and in those that it goes on from."""
        return self.spent + time.perf_counter() - self._started

    def attached(self, trainer: Trainer) -> Path | None:
        """Make the Trainer write it; returns the file to go on from."""
        trainer.callbacks.append(self)  # type: ignore[attr-defined]
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        return self._pending

    def resuming(self, run: Callable[[], T]) -> T:
        """The run's result; if it can't go on from the file, that of the run from its beginning."""
        try:
            return run()
        except Exception as error:
            if self._pending is None:
                raise
            print(f"{self.file}: {one_line(error)}: the trial starts again from its first epoch.", flush=True)
        self.remove()
        self._pending, self.spent = None, 0.0
        return run()

    def remove(self) -> None:
        """Leave nothing: the trial has ended."""
        _remove(self.file)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # Now, not when it is saved: a file may be edited while its code runs.
        parts = [*pl_module.modules(), *trainer.callbacks]  # type: ignore[attr-defined]
        self._code = (_own_code(), *_code(map(type, parts)))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._pending is not None:
            if not 0 < trainer.current_epoch <= self._reported + 1 or not self.spent > 0:
                raise ValueError("it is of no epoch that was reported")
            print(f"{self.file}: the trial goes on from it, in epoch {trainer.current_epoch}.", flush=True)
        self._pending = None
        self._due = time.perf_counter() + EVERY

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        ends = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        now = time.perf_counter()
        if ends or now < self._due:
            return
        if self._note is not None:
            self._note(self.file.name)
            self._note = None
        try:
            trainer.save_checkpoint(self.file, weights_only=False)
        except Exception as error:  # a full disk, what can't be pickled: no trial fails for its checkpoint
            if not self._said:
                print(f"{self.file} can't be written ({one_line(error)}): the trial goes on without.", flush=True)
            self._said = True
        done = time.perf_counter()
        self._due = done + max(EVERY, (done - now) / COST)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # They can be anything, which would then not be loaded; a run that goes on has been given its own.
        for key in ("CHECKPOINT_HYPER_PARAMS_KEY", "CHECKPOINT_HYPER_PARAMS_NAME", "CHECKPOINT_HYPER_PARAMS_TYPE"):
            checkpoint.pop(getattr(pl_module, key), None)
        checkpoint[_OURS] = {"made_by": self._identity(pl_module), "seconds": self.seconds}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        ours = checkpoint[_OURS]
        if ours["made_by"] != self._identity(pl_module):
            raise ValueError("it is of another run, or of other code")
        self.spent = float(ours["seconds"])

    def _identity(self, pl_module: LightningModule) -> str:
        return digest(*self._made_by, torch.__version__, lightning.__version__, repr(pl_module), *self._code)


class AtomicCheckpointIO(CheckpointIO):
    """Checkpoints that are written beside the file they then replace.

    Lightning's own go through memory and the system's folder for temporary files.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with replacing(Path(path)) as stream:
            torch.save(checkpoint, stream)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        if not Path(path).is_file():  # a pipe would be waited for
            raise ValueError("it is no plain file")
        with zipfile.ZipFile(path) as archive:
            # torch does not compress, so what unpacks to more is none of its; it does not look at the checksums either.
            unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > Path(path).stat().st_size or archive.testzip() is not None:
                raise ValueError("it is corrupt")
        return dict(torch.load(path, map_location="cpu", weights_only=True))

    def remove_checkpoint(self, path: Any) -> None:
        _remove(Path(path))


def sweep(location: StudyLocation, study: optuna.Study) -> None:
    """Remove the checkpoints of the study's trials that have ended: not all of their processes lived to do it."""
    if not (folder := _folder(location)).is_dir():
        return
    here = {file.name.partition(".")[0] for file in folder.iterdir()}
    for trial in study.get_trials(deepcopy=False) if here else ():
        if trial.state.is_finished() and (file := _file(location, trial)) is not None and file.stem in here:
            _remove(file)


def _folder(location: StudyLocation) -> Path:
    return location.folder / "checkpoints"


def _file(location: StudyLocation, trial: optuna.Trial | FrozenTrial) -> Path | None:
    """The trial's file, there or not; None where it has stored no name, or none of ours, which could lead anywhere."""
    name = str(trial.user_attrs.get("checkpoint"))
    return _folder(location) / name if re.fullmatch(rf"{trial.number:06}-[0-9a-f]{{8}}\.ckpt", name) else None


def _remove(file: Path) -> None:
    with suppress(OSError):
        for one in (file, *file.parent.glob(f"{file.stem}.*.partial")):
            one.unlink(missing_ok=True)


@cache
def _own_code() -> str:
    root = Path(__file__).resolve().parents[2]
    files = sorted(file for package in ("search", "strategies") for file in (root / package).rglob("*.py"))
    return digest(*(file.read_bytes() for file in files))


def _code(classes: Iterable[type]) -> list[bytes]:
    """What the files that define these classes say, as this process first saw them."""
    files: set[str] = set()
    for one in set(classes):
        with suppress(TypeError):  # no file defines it
            files.add(inspect.getfile(one))
    return [_content(file) for file in sorted(files)]


@cache
def _content(file: str) -> bytes:
    return Path(file).read_bytes() if Path(file).is_file() else b""
