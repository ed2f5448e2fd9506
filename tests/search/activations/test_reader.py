"""Frozen layers run once, and the losses do not show it."""

from collections import Counter
from dataclasses import replace

import numpy as np
import optuna
import pytest
import torch

from search.activations.frozen_prefix import FrozenPrefix
from search.training.fit import fit
from strategies import FreezingStrategy
from tests.search.projects import pretrained, study_of

pytestmark = pytest.mark.usefixtures("one_thread")


def task_of(**tables):
    usual = {"task": {"sizes": [40, 80], "metric": "loss"}, "train": {"epochs": 4, "steps_per_epoch": 5}}
    return pretrained(study_of("digits", "small_cnn", **(usual | tables)))


def frozen_prefix_of(task, folder, *, said=None):
    return FrozenPrefix.of(task, cache=folder, say=(said if said is not None else []).append)


@pytest.fixture(scope="module")
def task():
    return task_of()


def curve(task, strategy, *, size=80, repeat=0, **options):
    study = optuna.create_study()
    result = fit(task, strategy, size=size, repeat=repeat, trial=study.ask(), **options)
    return list(study.trials[0].intermediate_values.values()), result


VALIDATE = 120
"""Labels that validate: three quarters of an epoch's 5 x 32."""
PROBING = FreezingStrategy(freeze_depth=4, head_lr=0.01)
STRATEGIES = {
    "linear probing": PROBING,
    "last group, unfreezing": FreezingStrategy(freeze_depth=3, unfreeze_epoch=2, head_lr=0.01),
    "freeze, then unfreeze": FreezingStrategy(freeze_depth=0, unfreeze_epoch=2, head_lr=0.01),
    "gradual": FreezingStrategy(freeze_depth=0, epochs_per_group=1, head_lr=0.01),
    "full": FreezingStrategy(freeze_depth=0, head_lr=0.01),
    "biases": FreezingStrategy(freeze_depth=1, parameters="bias", l2_sp=0.1, head_lr=0.01),
}


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES.keys())
def test_scores_are_the_same_with_the_store_and_without(task, tmp_path, strategy):
    frozen_prefix = frozen_prefix_of(task, tmp_path)
    plain, without = curve(task, strategy, test=True)
    cached, result = curve(task, strategy, test=True, frozen_prefix=frozen_prefix)
    assert cached == pytest.approx(plain, abs=1e-5)
    assert result.scores["test_loss"] == pytest.approx(without.scores["test_loss"], abs=1e-5)


class Counting:
    """Counts the examples that frozen layers are run on."""

    def __init__(self, frozen_prefix, monkeypatch):
        self.examples = Counter()
        values = frozen_prefix.values

        def count(start, boundary):
            made = values(start, boundary)
            self.examples[boundary] += len(made[0])
            return made

        monkeypatch.setattr(frozen_prefix, "values", count)


def test_an_example_goes_through_frozen_layers_once_a_study(task, tmp_path, monkeypatch):
    frozen_prefix = frozen_prefix_of(task, tmp_path)
    counting = Counting(frozen_prefix, monkeypatch)
    curve(task, PROBING, size=40, frozen_prefix=frozen_prefix)
    kept = frozen_prefix.kept(32)
    assert 4 in kept
    assert counting.examples == dict.fromkeys(kept, 40 + VALIDATE), "each boundary on the way to the last"
    curve(task, PROBING, size=80, frozen_prefix=frozen_prefix)
    assert counting.examples == dict.fromkeys(kept, 80 + VALIDATE), "the smaller size's are part of the larger one's"
    curve(task, replace(PROBING, head_lr=0.1), size=40, frozen_prefix=frozen_prefix)
    curve(task, STRATEGIES["freeze, then unfreeze"], size=80, frozen_prefix=frozen_prefix)
    for boundary in kept:
        curve(task, replace(PROBING, freeze_depth=boundary), size=80, frozen_prefix=frozen_prefix)
    again = frozen_prefix_of(task, tmp_path)  # another process, or a later run
    later = Counting(again, monkeypatch)
    curve(task, PROBING, size=80, frozen_prefix=again)
    assert counting.examples == dict.fromkeys(kept, 80 + VALIDATE)
    assert later.examples == {}


def test_other_weights_and_other_data_are_never_mixed_up(task, tmp_path, monkeypatch):
    first = frozen_prefix_of(task, tmp_path)
    curve(task, PROBING, frozen_prefix=first)
    other_weights = {name: 1.01 * tensor for name, tensor in task.weights.items()}
    pool = task.data.pool
    brighter = replace(task.data, pool=replace(pool, inputs=pool.inputs * 1.01))
    for changed in (task.with_weights(other_weights), replace(task, data=brighter)):
        frozen_prefix = frozen_prefix_of(changed, tmp_path)
        counting = Counting(frozen_prefix, monkeypatch)
        cached, _ = curve(changed, PROBING, frozen_prefix=frozen_prefix)
        assert counting.examples[4] == 80 + VALIDATE
        assert cached == pytest.approx(curve(changed, PROBING)[0], abs=1e-5)


def test_losses_are_the_same_where_nothing_fits(task, tmp_path, monkeypatch):
    small = replace(task, spec=task.spec.changed(activations={"memory": 1e-6, "disk": 1e-6}))
    said = []
    frozen_prefix = frozen_prefix_of(small, tmp_path, said=said)
    counting = Counting(frozen_prefix, monkeypatch)
    cached, _ = curve(small, PROBING, frozen_prefix=frozen_prefix)
    assert cached == pytest.approx(curve(task, PROBING)[0], abs=1e-5)
    assert counting.examples[4] > 80 + VALIDATE
    assert len(said) == 1
    assert said[0].startswith("The cache is too small for ")
    assert said[0].endswith(" recomputed at each step. Set [activations] disk = 0.01 or more.")
    assert not list(tmp_path.rglob("*.npy"))


def test_nothing_is_kept_where_both_budgets_are_zero(task, tmp_path):
    off = replace(task, spec=task.spec.changed(activations={"memory": 0.0, "disk": 0.0}))
    assert frozen_prefix_of(off, tmp_path) is None


def test_half_precision_moves_a_linear_probe_by_little(task, tmp_path):
    half = replace(task, spec=task.spec.changed(activations={"dtype": "float16"}))
    kept, _ = curve(half, PROBING, frozen_prefix=frozen_prefix_of(half, tmp_path))
    plain, _ = curve(task, PROBING)
    assert kept == pytest.approx(plain, abs=1e-3)
    assert kept != pytest.approx(plain, abs=1e-7)


def test_weights_that_a_function_makes_anew_are_kept_apart(tmp_path):
    task = task_of()
    bare = replace(task, weights=None)  # as with [model] weights = "none": each repeat has random ones
    frozen_prefix = frozen_prefix_of(bare, tmp_path)
    for repeat in (0, 1, 0):
        cached, _ = curve(bare, PROBING, repeat=repeat, frozen_prefix=frozen_prefix)
        assert cached == pytest.approx(curve(bare, PROBING, repeat=repeat)[0], abs=1e-5)


OWN = """
import torch
from torch import nn
from torch.nn import functional as F


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Linear(64, 16), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        x = F.dropout(self.one(x.flatten(1)).relu(), 0.2, self.training)
        x = F.dropout(self.two(x).relu(), 0.2, self.training)
        return F.dropout(self.three(x).relu(), 0.2, self.training)


class Normed(Dropping):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(64, track_running_stats=False, affine=False)

    def forward(self, x):
        return super().forward(self.norm(x.flatten(1)))


class Noisy(Dropping):
    def forward(self, x):
        return super().forward(x) + 0.1 * torch.randn(len(x), 16)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_nets.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return lambda name, **tables: task_of(model={"backbone": f"own_nets:{name}", "weights": "none"}, **tables)


@pytest.mark.parametrize("name", ["Normed", "Noisy"])
def test_features_that_mix_examples_are_not_kept(own, tmp_path, name):
    said = []
    assert frozen_prefix_of(own(name), tmp_path / "cache", said=said) is None
    assert said == [
        f"[model] backbone = 'own_nets:{name}': what it makes of an example depends on the others, or on chance; its "
        "frozen layers run in each trial."
    ]


def test_dropout_draws_the_same_with_the_store_and_without(own, tmp_path):
    task = own("Dropping")
    for strategy in (FreezingStrategy(freeze_depth=1), FreezingStrategy(freeze_depth=0, unfreeze_epoch=2)):
        plain, _ = curve(task, strategy)
        assert curve(task, strategy, frozen_prefix=frozen_prefix_of(task, tmp_path / "cache"))[0] == pytest.approx(
            plain, abs=1e-5
        )


def test_edited_code_finds_nothing_of_before(own, tmp_path, monkeypatch):
    import own_nets

    task = own("Dropping")
    curve(task, FreezingStrategy(freeze_depth=3), frozen_prefix=frozen_prefix_of(task, tmp_path / "cache"))
    monkeypatch.setattr(own_nets.Dropping, "forward", lambda self, x: self.three(self.two(self.one(x.flatten(1)))))
    frozen_prefix = frozen_prefix_of(task, tmp_path / "cache")
    counting = Counting(frozen_prefix, monkeypatch)
    curve(task, FreezingStrategy(freeze_depth=3), frozen_prefix=frozen_prefix)
    assert counting.examples[3] >= 80 + VALIDATE


@pytest.mark.parametrize("views", [1, 3, float("inf")])
def test_augmented_views_are_the_same_with_the_store_and_without(tmp_path, views):
    images = torch.randint(0, 256, (100, 12, 12), dtype=torch.uint8).numpy()
    np.savez(tmp_path / "images.npz", x=images, y=np.arange(100) % 4, x_test=images[:20] + 1, y_test=np.arange(20) % 4)
    task = task_of(
        task={"data": str(tmp_path / "images.npz"), "sizes": [40], "metric": "loss"},
        model={"backbone": "small_cnn", "weights": "none", "image_size": 8},
        train={"epochs": 3, "steps_per_epoch": 4, "accelerator": "cpu", "augment": ["crop", "flip"], "views": views},
    )
    for strategy in (PROBING, STRATEGIES["last group, unfreezing"]):
        plain, _ = curve(task, strategy, size=40)
        cached, _ = curve(task, strategy, size=40, frozen_prefix=frozen_prefix_of(task, tmp_path / "cache"))
        assert cached == pytest.approx(plain, abs=1e-5)
