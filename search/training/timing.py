"""An estimate of a trial's time on this machine, from a few epochs of training."""

import logging
import warnings
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import lightning.pytorch  # noqa: F401  (its import sets the log level that is lowered below)
import torch

from search.spec.study_spec import StudySpec
from search.task.task import Task
from search.training.fit import fit
from search.training.own_hooks import checked
from strategies import FreezingStrategy


def seconds_per_trial(spec: StudySpec) -> tuple[Task, float]:
    """Return the task and the seconds of full fine-tuning.

    Raises `FrostlineError` if the task has an error.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(spec.train.threads)
    with TemporaryDirectory() as cache:  # for decoded images, which may not fit into memory
        task = checked(Task.load(spec, cache=Path(cache)))
        seconds = {}
        for epochs in (1, 1, 4):  # the first run warms up
            short = replace(task, spec=spec.changed(train={"epochs": epochs}))
            seconds[epochs] = fit(short, FreezingStrategy.full_fine_tuning(), size=task.sizes[-1], repeat=0).seconds
    epoch = max(seconds[4] - seconds[1], 0.0) / 3
    return task, seconds[1] + epoch * (spec.train.epochs - 1)
