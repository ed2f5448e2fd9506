"""Parameters that a user's module freezes in its hooks: kept, counted, named at the start, or refused."""

import pytest
import torch

from search.errors import TaskError
from search.task.task import Task
from search.training.fit import fit
from search.training.own_hooks import checked
from strategies import FreezingStrategy
from tests.search.projects import PROJECT, study_of

pytestmark = pytest.mark.usefixtures("one_thread")

HOOKS = """
from lightning.pytorch.callbacks import EarlyStopping


class Own(Net):
    def val_dataloader(self):
        raise NotImplementedError


class InSetup(Own):
    def setup(self, stage):
        self.backbone[2].weight.requires_grad_(False)


class OnFitStart(Own):
    def on_fit_start(self):
        self.backbone[2].weight.requires_grad_(False)


class FirstEpoch(Own):
    def on_train_epoch_start(self):
        if self.current_epoch == 0:
            self.backbone[2].weight.requires_grad_(False)


class Whole(Own):
    def on_fit_start(self):
        self.backbone.requires_grad_(False)


class Stopping(Own):
    def configure_callbacks(self):
        return [EarlyStopping("val_loss")]


class Fails(Own):
    def training_step(self, batch, index):
        return self.criterion(self(batch[0]), batch[1])
"""
FULL = FreezingStrategy(freeze_depth=0, head_lr=0.01, backbone_lr_ratio=1.0)
LATE = FreezingStrategy(freeze_depth=0, unfreeze_epoch=1, head_lr=0.01, backbone_lr_ratio=1.0)


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "own_hooks_project.py").write_text(PROJECT + HOOKS)
    monkeypatch.chdir(tmp_path)

    def load(module, *, size=100, **space):
        names = "own_hooks_project:Data", f"own_hooks_project:{module}"
        tables = {"task": {"sizes": [size]}, "train": {"epochs": 3, "steps_per_epoch": 4}}
        return Task.load(study_of(*names, **tables, space={"pretrained": True, **space}))

    return load


@pytest.mark.filterwarnings("ignore:.*requires_grad = False before the fit")
@pytest.mark.parametrize("strategy", [FULL, LATE])
@pytest.mark.parametrize("module", ["InSetup", "OnFitStart", "FirstEpoch"])
def test_fit_keeps_what_a_hook_freezes(project, module, strategy):
    """The study names it before any training, and leaves it out of its counts."""
    task = project(module)
    whole = task.trainable_parameters(strategy)
    task = checked(task)
    assert task.data.notes[-1] == (
        f"[model] backbone = 'own_hooks_project:{module}': 1 parameter (backbone.2.weight) with requires_grad = False "
        'in its hooks stay frozen at every freeze depth; to train them: [space] parameters = "all".'
    )
    assert task.trainable_parameters(strategy) == whole - 256
    before = task.build(strategy, repeat=0)[0].state_dict()
    after = fit(task, strategy, size=100, repeat=0).model.backbone.state_dict()
    assert [name for name in after if torch.equal(after[name], before[name])] == ["2.weight"]


def test_fit_trains_what_a_hook_froze_where_all_may(project):
    """The study says so at its start."""
    task = checked(project("OnFitStart", parameters=["trainable", "all"]))
    assert (
        'of 1 parameter (backbone.2.weight) in its hooks is not taken where parameters = "all"' in task.data.notes[-1]
    )
    every = FreezingStrategy(freeze_depth=0, parameters="all", head_lr=0.01, backbone_lr_ratio=1.0)
    before = task.build(every, repeat=0)[0].state_dict()
    after = fit(task, every, size=100, repeat=0).model.backbone.state_dict()
    assert not any(torch.equal(after[name], before[name]) for name in after)


def test_checked_adds_nothing_where_no_hook_freezes(project):
    """A module's own loaders are not asked for, and random numbers are left alone."""
    task, state = project("Own"), torch.get_rng_state()
    assert checked(task).data.notes == task.data.notes
    assert torch.equal(state, torch.get_rng_state())


def test_fit_asks_no_module_for_loaders_where_nothing_validates(project):
    """Its own validation data are none of the study's."""
    task = project("Own", size="all")
    assert len(task.split(repeat=1, size=300).validate) == 0
    assert fit(task, FULL, size=300, repeat=1, test=True).scores["test_loss"] > 0


def test_fit_stops_nothing_early_where_nothing_validates(project):
    """The study names the sizes; elsewhere the callback is taken."""
    task = project("Stopping", size="all")
    assert "its EarlyStopping is not taken at 300 labels" in checked(task).data.notes[-1]
    assert fit(task, FULL, size=300, repeat=1, test=True).epochs == 3
    assert not any("EarlyStopping" in note for note in checked(project("Stopping")).data.notes)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("Whole", r"Whole': \[space\] parameters = 'trainable' with .* leaves the backbone nothing to train; allowed:"),
        ("Fails", "Fails': training fails: AttributeError: 'Fails' object has no attribute 'criterion'"),
    ],
)
def test_checked_refuses_before_training(project, module, message):
    """Every trial would fail, or train the head alone."""
    with pytest.raises(TaskError, match=message) as raised:
        checked(project(module))
    assert "\n" not in str(raised.value)
