"""What a process needs to run a study's trials: loaded and made once, whoever hands it the trials."""

import gc
import logging
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from search.spec.study_spec import StudySpec
from search.storage.location import StudyLocation

if TYPE_CHECKING:
    from search.activations.frozen_prefix import FrozenPrefix
    from search.device import ComputeFormat
    from search.study.queue import Claim, Failure, TrialQueue
    from search.task.task import Task


def load_task(spec: StudySpec, location: StudyLocation) -> "Task":
    """The study's task, loaded and checked, in a process that is made ready to train. Raises `FrostlineError`."""
    set_utc()
    silence_libraries()
    import torch

    from search.task.task import Task

    torch.set_num_threads(spec.train.threads)
    if not torch.cuda.is_available():
        # Every optimizer step asks for an accelerator; that there is none takes its libraries 0.2 ms to find out,
        # unless it is said. A step of a linear probe on stored features takes 0.5 ms.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    task = Task.load(spec, cache=location.folder / "cache")
    gc.collect()
    gc.freeze()  # what is there now stays: the collections after each trial need not look at it
    return task


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialContext:
    """A study's queue, its task with the pretrained weights, what its frozen layers make, and its arithmetic."""

    queue: "TrialQueue"
    task: "Task"
    layers: "FrozenPrefix | None"
    arithmetic: "ComputeFormat"

    @classmethod
    def of(cls, queue: "TrialQueue", task: "Task", *, progress: Callable[[], None] = lambda: None) -> Self:
        """Trains the source task's weights where they are not there yet. Raises `FrostlineError`."""
        from search.activations.frozen_prefix import FrozenPrefix
        from search.digest import digest
        from search.training.precision import compute_format_of
        from search.training.source_task import with_source_weights

        location, say = queue.location, queue.notify
        task = with_source_weights(task, location)
        if task.weights is not None:
            queue.check_weights(digest(*task.weights.items()))
        arithmetic = compute_format_of(task, location, notify=say)
        layers = FrozenPrefix.of(task, cache=location.folder / "cache", say=say, progress=progress)
        return cls(queue=queue, task=task, layers=layers, arithmetic=arithmetic)

    def run(self, claim: "Claim", progress: Callable[[], None]) -> "Failure | None":
        """Run a claimed trial, as `search.workers.trial.run_trial` does."""
        from search.workers.trial import run_trial

        return run_trial(
            self.queue, claim, self.task, layers=self.layers, compute_format=self.arithmetic, progress=progress
        )


def set_utc() -> None:
    """Let the time of day, which Optuna stores, be one on all hosts."""
    os.environ["TZ"] = "UTC"
    if hasattr(time, "tzset"):
        time.tzset()


def silence_libraries() -> None:
    """Keep what Lightning and Optuna say of themselves out of the log."""
    import lightning.pytorch  # noqa: F401  (its import sets the level that is lowered here)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Known and meant: frozen parts are in eval mode, data that lies in memory needs no worker processes.
    for message in (".*module.s. in eval mode", ".*does not have many workers", ".*no `val_dataloader`", ".*LeafSpec"):
        warnings.filterwarnings("ignore", message=message)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
