"""Checkpoints: one file a trial, from which it resumes if its process dies.

checkpoints/000012-3f2a9c01.ckpt                a trial's, named in its user attribute "checkpoint"
checkpoints/000012-3f2a9c01.ckpt.<8>.partial    one that is being written, or that a killed process left
"""

import inspect
import re
import time
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import lightning
import optuna
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from optuna.trial import FrozenTrial

from search.digest import digest
from search.files import replacing
from search.storage.location import StudyLocation
from search.training.callbacks import last_reported
from search.user_code import one_line

INTERVAL_SECONDS = 30.0
"""Time between two checkpoints of a trial, and before its first."""
MAX_TIME_SHARE = 0.02
"""The share of a run's time that its checkpoints may take."""
_KEY = "frostline"
"""The key of a checkpoint's own entries beside Lightning's."""


class TrialCheckpoint(Checkpoint):
    """Everything the rest of a trial's run depends on, written at epoch ends.

    That is Lightning's own checkpoint, each callback's state included, with the seconds spent so far. A user's own
    LightningModule adds its other state in `on_save_checkpoint`. As a `Checkpoint`, it runs after all other callbacks
    and the module. A file that is broken, of other code, of another run, or that would execute code is never resumed.
    """

    def __init__(self, location: StudyLocation, trial: optuna.Trial) -> None:
        known = _file_of(location, trial)
        self.file = known or _folder(location) / f"{trial.number:06}-{uuid4().hex[:8]}.ckpt"
        self._trial = trial
        self._is_named = known is not None  # in the trial's attributes
        self._pending = known if known is not None and known.exists() else None  # until the run has resumed from it
        self._spent = 0.0
        self._made_by: tuple[str | int, ...] = ()
        self._code: tuple[str | bytes, ...] = ()
        self._started = time.perf_counter()
        self._due = 0.0
        self._has_warned = False

    @property
    def seconds(self) -> float:
        """Seconds that the run has taken so far, in all its processes."""
        return self._spent + time.perf_counter() - self._started

    def attach(self, trainer: Trainer, *, made_by: tuple[str | int, ...]) -> Path | None:
        """Let a Trainer write this checkpoint, and return the file to resume from, if any.

        made_by: what determines the run beside its code, its study and its number.
        """
        self._made_by = (self._trial.study.study_name, self._trial.number, *made_by)
        trainer.callbacks.append(self)  # type: ignore[attr-defined]
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        return self._pending

    def discard(self, error: Exception) -> bool:
        """Remove the file if resuming from it raised this error, and return whether it did."""
        if self._pending is None:
            return False
        print(f"{self.file}: {one_line(error)}: the trial starts again from its first epoch.", flush=True)
        self.remove()
        self._pending, self._spent = None, 0.0
        return True

    def remove(self) -> None:
        """Remove the file of a trial that has ended."""
        _remove(self.file)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # Now, not when it is saved: a file may be edited while its code runs.
        parts = [*pl_module.modules(), *trainer.callbacks]  # type: ignore[attr-defined]
        self._code = (_own_code(), *_code(map(type, parts)))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._pending is not None:
            # A checkpoint is written after its epoch's value is reported.
            if not 0 < trainer.current_epoch <= last_reported(self._trial) + 1 or not self._spent > 0:
                raise ValueError("it is of no epoch that was reported")
            print(f"{self.file}: resumed in epoch {trainer.current_epoch}.", flush=True)
        self._pending = None
        self._due = time.perf_counter() + INTERVAL_SECONDS

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        ends = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        now = time.perf_counter()
        if ends or now < self._due:
            return
        if not self._is_named:  # first, so that no file is left that no trial names
            self._trial.set_user_attr("checkpoint", self.file.name)
            self._is_named = True
        try:
            trainer.save_checkpoint(self.file, weights_only=False)
        except Exception as error:  # a full disk, or a value that can't be pickled: no reason to fail the trial
            if not self._has_warned:
                print(f"{self.file} can't be written ({one_line(error)}): the trial continues without.", flush=True)
            self._has_warned = True
        done = time.perf_counter()
        self._due = done + max(INTERVAL_SECONDS, (done - now) / MAX_TIME_SHARE)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # Hyperparameters can be any objects, which would then not be loaded; a resumed run is given its own.
        for key in ("CHECKPOINT_HYPER_PARAMS_KEY", "CHECKPOINT_HYPER_PARAMS_NAME", "CHECKPOINT_HYPER_PARAMS_TYPE"):
            checkpoint.pop(getattr(pl_module, key), None)
        checkpoint[_KEY] = {"made_by": self._identity(pl_module), "seconds": self.seconds}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        own = checkpoint[_KEY]
        if own["made_by"] != self._identity(pl_module):
            raise ValueError("it is of another run, or of other code")
        self._spent = float(own["seconds"])

    def _identity(self, pl_module: LightningModule) -> str:
        return digest(*self._made_by, torch.__version__, lightning.__version__, repr(pl_module), *self._code)


class AtomicCheckpointIO(CheckpointIO):
    """Checkpoints written beside the file that they then replace.

    Lightning's own go through memory and the system's folder for temporary files.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with replacing(Path(path)) as stream:
            torch.save(checkpoint, stream)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        if not Path(path).is_file():  # reading a pipe would block
            raise ValueError("it is no plain file")
        with zipfile.ZipFile(path) as archive:
            # torch never compresses, and does not check the checksums.
            unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > Path(path).stat().st_size or archive.testzip() is not None:
                raise ValueError("it is corrupt")
        return dict(torch.load(path, map_location="cpu", weights_only=True))

    def remove_checkpoint(self, path: Any) -> None:
        _remove(Path(path))


def sweep(location: StudyLocation, studies: Iterable[optuna.Study]) -> None:
    """Remove the checkpoints of these studies' finished trials: some processes died before they did."""
    if not (folder := _folder(location)).is_dir():
        return
    here = {file.name.partition(".")[0] for file in folder.iterdir()}
    for study in studies if here else ():
        for trial in study.get_trials(deepcopy=False):
            if trial.state.is_finished() and (file := _file_of(location, trial)) is not None and file.stem in here:
                _remove(file)


def _folder(location: StudyLocation) -> Path:
    return location.folder / "checkpoints"


def _file_of(location: StudyLocation, trial: optuna.Trial | FrozenTrial) -> Path | None:
    """Return the trial's file, which may not exist; None without a valid stored name."""
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
    """Return the files that define these classes, as this process first read them."""
    files: set[str] = set()
    for one in set(classes):
        with suppress(TypeError):  # no file defines it
            files.add(inspect.getfile(one))
    return [_content(file) for file in sorted(files)]


@cache
def _content(file: str) -> bytes:
    return Path(file).read_bytes() if Path(file).is_file() else b""
