"""Fitting: the strategy imported is the strategy searched, to the bit."""

import math

import optuna
import pytest
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch import LightningModule, Trainer
from optuna.trial import TrialState
from torch import nn
from torch.optim import AdamW
from torch.utils.data import DataLoader

from search.data.batches import EndlessSampler
from search.data.examples import already_batched
from search.spec.study_spec import StudySpec, find_study_file
from search.spec.tables import Train
from search.task.task import Task
from search.training.callbacks import late_mean
from search.training.fit import fit
from search.training.source_task import train_source
from search.training.trainer import lean_trainer
from strategies import FreezingCallback, FreezingStrategy, load_strategy, param_groups, save_strategy
from tests.search.projects import study_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def task():
    spec = StudySpec.from_file(find_study_file("digits")).changed(
        task={"metric": "loss"}, train={"epochs": 6, "steps_per_epoch": 5}, source={"data": "digits-0-4", "epochs": 2}
    )
    task = Task.load(spec)
    return task.with_weights(train_source(task))


def ask(pruner=None):
    study = optuna.create_study(pruner=pruner or optuna.pruners.NopPruner())
    return study, study.ask()


GRADUAL = FreezingStrategy(
    freeze_depth=1, unfreeze_epoch=1, epochs_per_group=2, backbone_lr_ratio=0.3, head_lr=0.01, layer_lr_decay=0.5
)


def test_a_plain_script_gives_the_trials_curve_to_the_bit(task, tmp_path):
    study, trial = ask()
    fit(task, GRADUAL, size=50, repeat=2, trial=trial)
    searched = list(study.trials[0].intermediate_values.values())
    save_strategy(GRADUAL, tmp_path / "best.toml")

    # From here on: a user's own Lightning code, which imports `strategies` and nothing of the search.
    strategy = load_strategy(tmp_path / "best.toml")
    split, (body, top, _) = task.split(repeat=2, size=50), task.build(strategy, repeat=2)
    examples, held_out = task.take(split.train), task.take(split.validate)

    class Mine(LightningModule):
        def __init__(self):
            super().__init__()
            self.backbone, self.head, self.curve = body, top, []

        def training_step(self, batch, index):
            return nn.functional.cross_entropy(self.head(self.backbone(batch[0])), batch[1])

        def validation_step(self, batch, index):
            loss = nn.functional.cross_entropy(self.head(self.backbone(batch[0])), batch[1])
            self.curve.append(loss.item())

        def configure_optimizers(self):
            return AdamW(param_groups(self.backbone, self.head, strategy), fused=True)

    sampler = EndlessSampler(len(examples), length=5 * 32, seed=task.seed(2))
    mine = Mine()
    Trainer(
        max_epochs=6,
        accelerator="cpu",
        callbacks=[FreezingCallback(strategy)],
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    ).fit(
        mine,
        DataLoader(examples, batch_size=32, sampler=sampler, collate_fn=already_batched),
        DataLoader(held_out, batch_size=len(held_out), collate_fn=already_batched),
    )
    assert [late_mean(mine.curve[: epoch + 1]) for epoch in range(6)] == pytest.approx(searched, abs=1e-7)


def test_fit_gives_the_same_curve_for_the_same_seed(task):
    curves = []
    for _ in range(2):
        study, trial = ask()
        fit(task, GRADUAL, size=100, repeat=0, trial=trial)
        curves.append(study.trials[0].intermediate_values)
    assert curves[0] == curves[1]
    assert len(curves[0]) == 6


def test_fit_scores_the_last_epochs_weights(task):
    """The value of a judged run is its test score; the search sees the metric's mean over the last quarter."""
    study, trial = ask()
    result = fit(task, GRADUAL, size=100, repeat=1, trial=trial, test=True)
    assert list(study.trials[0].intermediate_values) == [*range(6)]
    assert result.value == result.scores["test_loss"]
    assert result.predictions["example_scores"].mean() == pytest.approx(result.scores["test_loss"])
    test = task.take(task.split(repeat=1, size=100).test)
    result.model.eval()
    with torch.no_grad():
        again = nn.functional.cross_entropy(result.model(test.inputs), test.targets).item()
    assert again == pytest.approx(result.value, abs=1e-6)


def test_late_mean_is_over_the_last_quarter():
    """At least one epoch; not finite if one of them is not."""
    assert [late_mean(range(n)) for n in (1, 7, 8, 20)] == [0, 6, 6.5, 17]
    assert math.isnan(late_mean([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, math.nan, 1.0]))
    assert math.isnan(late_mean([]))


def test_fit_on_all_labels_validates_nothing(task):
    """A judged run needs no validation; it reports nothing on its way."""
    study, trial = ask()
    result = fit(task, GRADUAL, size=847, repeat=1, trial=trial, test=True)
    assert study.trials[0].intermediate_values == {}
    assert result.state == TrialState.COMPLETE
    assert 0 < result.scores["test_accuracy"] <= 1


def test_trainable_parameters_counts_what_unfreezes(task):
    head, linear, block3 = 650, 256 * 64 + 64, 32 * 64 * 9 + 64
    for depth, expected in ((4, head), (3, head + linear), (2, head + linear + block3)):
        assert task.trainable_parameters(FreezingStrategy(freeze_depth=depth)) == expected
    assert task.trainable_parameters(FreezingStrategy(freeze_depth=0, unfreeze_epoch=6)) == head


class PruneAt(optuna.pruners.BasePruner):
    def __init__(self, step):
        self.step = step

    def prune(self, study, trial):
        return trial.last_step >= self.step


def test_a_pruned_run_ends_after_its_epoch(task):
    study, trial = ask(PruneAt(2))
    result = fit(task, GRADUAL, size=50, repeat=0, trial=trial)
    assert result.epochs == 3
    assert list(study.trials[0].intermediate_values) == [0, 1, 2]
    assert result.state == TrialState.PRUNED


@pytest.mark.parametrize(("step", "epochs"), [(0, 2), (1, 2), (2, 3)])
def test_a_resumed_trial_is_judged_from_its_last_report_on(task, step, epochs):
    study, trial = ask(PruneAt(step))
    # Reported before its process died, perhaps just before it was judged.
    trial.report(9.0, 0)
    trial.report(9.0, 1)
    result = fit(task, GRADUAL, size=50, repeat=0, trial=trial)
    assert result.epochs == epochs
    values = study.trials[0].intermediate_values
    assert list(values) == list(range(epochs))
    assert values[0] == values[1] == 9.0
    assert result.state == TrialState.PRUNED


@pytest.mark.parametrize("metric", ["loss", "accuracy", "auroc"])
def test_a_run_that_diverges_fails_without_a_value(task, metric):
    spec = task.spec.changed(train={"optimizer": "sgd"}, task={"metric": metric})
    wild = Task.load(spec).with_weights(task.weights)
    result = fit(wild, FreezingStrategy(freeze_depth=0, head_lr=1e30, backbone_lr_ratio=1.0), size=50, repeat=0)
    assert result.state == TrialState.FAIL
    assert math.isnan(result.value)
    assert result.epochs == 6


OWN = """
import random
import numpy as np
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

class Mine(LightningModule):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(64, 16), nn.ReLU()), nn.Linear(16, 8))
        self.head = nn.Linear(8, 10)
        self.steps = 0

    def forward(self, inputs):
        return self.head(self.backbone(inputs))

    def configure_callbacks(self):
        return [ModelCheckpoint(monitor="val_loss")]

    def training_step(self, batch, index):
        self.steps += 1
        share = np.random.beta(1, 1) * random.random()
        return share * nn.functional.cross_entropy(self(batch[0]), batch[1], label_smoothing=0.1)

    def validation_step(self, batch, index):
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        raise AssertionError("the strategy brings the optimizer")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_module.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)

    def load(**table):
        steps = {"epochs": 3, "steps_per_epoch": 4}
        return Task.load(study_of("digits", "own_module:Mine", task={"sizes": [50], **table}, train=steps))

    return load


def test_fit_trains_a_users_module_by_its_own_steps(own, tmp_path):
    task, strategy = own(metric="loss"), FreezingStrategy(freeze_depth=1, unfreeze_epoch=1, head_lr=0.01)
    study, trial = ask()
    result = fit(task, strategy, size=50, repeat=0, trial=trial, test=True)
    assert result.model.steps == 12
    assert len(study.trials[0].intermediate_values) == 3
    start, _, _ = task.build(strategy, repeat=0)
    assert torch.equal(result.model.backbone[1][0].weight, start[1][0].weight), "frozen"
    assert not torch.equal(result.model.backbone[2].weight, start[2].weight), "unfrozen"
    assert 0 <= result.scores["test_accuracy"] <= 1
    again = fit(task, strategy, size=50, repeat=0, test=True)
    assert again.value == result.value, "whatever random numbers its steps draw"
    assert not (tmp_path / "checkpoints").exists(), "no file a trial"


def test_lean_trainer_ignores_slurm_ranks(monkeypatch):
    for name, content in (("SLURM_NTASKS", "4"), ("SLURM_PROCID", "1"), ("SLURM_JOB_ID", "7"), ("SLURM_JOB_NAME", "a")):
        monkeypatch.setenv(name, content)
    trainer = lean_trainer(Train(accelerator="cpu"), epochs=1)
    assert (trainer.world_size, trainer.global_rank) == (1, 0)
    assert type(trainer._accelerator_connector.cluster_environment) is LightningEnvironment
