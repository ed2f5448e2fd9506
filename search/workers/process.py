"""Preparation of a process that trains: its task, libraries, time zone and log."""

import gc
import io
import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import StorageError
from search.spec.study_spec import StudySpec
from search.storage.location import StudyLocation

if TYPE_CHECKING:
    from search.task.task import Task


def load_task(spec: StudySpec, location: StudyLocation) -> "Task":
    """Load and check the study's task, in a process made ready to train. Raises `FrostlineError`."""
    set_utc()
    silence_libraries()
    import torch

    from search.task.task import Task
    from search.training.own_hooks import checked

    torch.set_num_threads(spec.train.threads)
    if not torch.cuda.is_available():
        # Every optimizer step looks for an accelerator. Unless this says that there is none, that takes 0.2 ms, and a
        # step of a linear probe on cached features takes 0.5 ms.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    task = checked(Task.load(spec, cache=location.folder / "cache"))
    gc.collect()
    gc.freeze()  # the task stays: the collections after each trial need not look at it
    return task


def set_utc() -> None:
    """Set the time zone to UTC. Optuna stores local times, which hosts must share."""
    os.environ["TZ"] = "UTC"
    if hasattr(time, "tzset"):
        time.tzset()


def silence_libraries() -> None:
    """Keep messages of Lightning and Optuna about themselves out of the log."""
    import lightning.pytorch  # noqa: F401  (its import sets the level that is lowered here)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Known and meant: frozen parts are in eval mode, data in memory needs no worker processes.
    for message in (".*module.s. in eval mode", ".*does not have many workers", ".*no `val_dataloader`", ".*LeafSpec"):
        warnings.filterwarnings("ignore", message=message)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def log_file(location: StudyLocation, index: int) -> Path:
    """Return a worker's log file, made if missing. Raises `StorageError`."""
    file = location.folder / "logs" / f"worker-{index}.log"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    except OSError as error:
        raise StorageError(f"{location.folder}: can't write there: {error.strerror}.") from None
    return file


def redirect_output(target: str | os.PathLike[str]) -> None:
    """Append this process's output to a file from here on."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    sys.stdout = sys.stderr = io.TextIOWrapper(_Log(1, "w", closefd=False), write_through=True)


class _Log(io.FileIO):
    """A log that drops lines where the disk is full, instead of raising an error."""

    def write(self, text: Any) -> int:
        try:
            return super().write(text) or 0
        except OSError:
            return len(text)
