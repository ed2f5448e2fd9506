"""Trials whose process dies: code to train, a queue, and a process that is killed."""

import os
import signal
import sys

import numpy as np
import optuna
import torch
from optuna.trial import TrialState

from search.storage.location import StudyLocation
from search.storage.url import Database
from search.study.queue import Claim
from search.training import checkpoint
from search.verdict.predictions import save_predictions
from search.workers.trial import run_trial
from strategies import FreezingStrategy
from tests.search.projects import pretrained, study_of

EPOCHS, STEPS = 4, 3
GRADUAL = FreezingStrategy(freeze_depth=0, epochs_per_group=1, head_lr=0.01, layer_lr_decay=0.7)

NETS = """
import random
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule
from torch import nn


def conv():
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2)),
        nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2)),
        nn.Sequential(nn.Flatten(), nn.Linear(128, 16), nn.ReLU(), nn.Dropout(0.2)),
    )


class Shaking(Callback):
    def __init__(self):
        self.shakes = 1.0

    def state_dict(self):
        return {"shakes": self.shakes}

    def load_state_dict(self, state):
        self.shakes = state["shakes"]

    def on_train_epoch_start(self, trainer, module):
        self.shakes *= random.random()

    def on_train_epoch_end(self, trainer, module):
        module.share = module.share * 0.9 + 0.1 * torch.rand(())


class Mine(LightningModule):
    def __init__(self, folder=Path("somewhere")):
        super().__init__()
        self.save_hyperparameters()  # a path: `weights_only` would not load that
        self.backbone = conv()
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(16, 10))
        self.register_buffer("share", torch.ones(()))
        self.shaking = Shaking()

    def on_train_start(self):
        random.random(), torch.rand(3), np.random.rand()

    def forward(self, inputs):
        return self.head(self.backbone(inputs))

    def configure_callbacks(self):
        return [self.shaking]

    def training_step(self, batch, index):
        share = self.share * np.random.beta(1, 1) * self.shaking.shakes
        return share * nn.functional.cross_entropy(self(batch[0]), batch[1])

    def on_train_epoch_end(self):
        self.share = self.share * (0.5 + random.random() / 2)

    def validation_step(self, batch, index):
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))
"""


class Died(BaseException):
    """The death of a process, which nothing catches."""


class Queue:
    """A `TrialQueue` as a trial's run uses it, with trials claimed by hand."""

    extension = 0

    def __init__(self, folder, task, *, storage=None, pruner=None):
        self.storage = optuna.storages.get_storage(storage or optuna.storages.InMemoryStorage())
        pruner = pruner or optuna.pruners.NopPruner()
        self.study = optuna.create_study(storage=self.storage, study_name="s", pruner=pruner, load_if_exists=True)
        self.location = StudyLocation(name="s", folder=folder, database=Database.at(folder / "study.db"))
        folder.mkdir(exist_ok=True)

    def claim(self, strategy, *, judged=False, again=None):
        trial = self.study.ask() if again is None else optuna.Trial(self.study, again.trial._trial_id)
        return Claim(study=self.study, trial=trial, strategy=strategy, size=40, repeat=0, judged=judged)

    def note(self, claim, attributes):
        for key, content in attributes.items():
            claim.trial.set_user_attr(key, content)

    def finish(self, claim, result, *, meanwhile):
        attributes = result.attributes
        if result.predictions is not None:
            name = save_predictions(self.location, claim.trial.number, **result.predictions)
            attributes["predictions_file"] = name
        self.note(claim, attributes)
        self.study.tell(claim.trial, result.value if result.state == TrialState.COMPLETE else None, state=result.state)

    def stored(self, claim):
        return self.storage.get_trial(claim.trial._trial_id)

    @property
    def files(self):
        return sorted(file.name for file in (self.location.folder / "checkpoints").glob("*"))

    def dies(self, task, claim, *, batches=2, **options):
        """Run a trial whose process dies so many batches after the next new report."""
        known, left = len(self.stored(claim).intermediate_values), [batches]

        def progress():
            left[0] -= len(self.stored(claim).intermediate_values) > known
            if left[0] == 0:
                raise Died

        return self.dies_of(progress, task, claim, **options)

    def dies_of(self, progress, task, claim, **options):
        try:
            assert run_trial(self, claim, task, progress=progress, **options) is None
        except Died:
            return True
        return False

    def again(self, claim):
        return self.claim(claim.strategy, judged=claim.judged, again=claim)


def task_of(**tables):
    usual = {"task": {"sizes": [40], "metric": "loss"}, "train": {"epochs": EPOCHS, "steps_per_epoch": STEPS}}
    return pretrained(study_of("digits", "nets:conv", **(usual | tables)))


def come_to(queue, claim):
    """Return all that is stored of a trial, except what two runs may differ in."""
    stored = queue.stored(claim)
    attributes = {key: one for key, one in stored.user_attrs.items() if key not in ("seconds", "checkpoint")}
    if (name := attributes.pop("predictions_file", None)) is not None:
        with np.load(queue.location.predictions_path(name)) as content:
            attributes["predicted"] = content["predicted"].tobytes()
    return stored.state, stored.values, stored.intermediate_values, attributes


def be_killed(nets, folder, database):
    """Train a trial whose process is killed while it writes its third checkpoint."""
    sys.path.insert(0, str(nets))
    task, save, saved = task_of(), torch.save, []

    def half(content, stream):
        saved.append(content)
        if len(saved) == 3:
            stream.write(b"PK" * 1000)
            stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        save(content, stream)

    torch.set_num_threads(1)
    torch.save, checkpoint.INTERVAL_SECONDS, checkpoint.MAX_TIME_SHARE = half, 0.0, float("inf")
    queue = Queue(folder, task, storage=database)
    run_trial(queue, queue.claim(GRADUAL), task)
