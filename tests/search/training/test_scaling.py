"""Targets scaled for training, and classes weighed in the loss."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from search.errors import TaskError
from search.task.task import Task
from search.training.fit import fit
from search.training.module import Scaling, TaskModule
from strategies import FreezingStrategy
from tests.search.projects import study_of

pytestmark = pytest.mark.usefixtures("one_thread")

FAR = """
import torch
from search.data.examples import Examples, TaskData
from torch import nn

def part(seed, scale):
    x = torch.randn(200, 8, generator=torch.Generator().manual_seed(seed))
    return Examples(x, torch.stack([290 + 8 * x[:, 0], 0.5 + 0.2 * x[:, 1]], 1) * scale)

def data(scale=1.0):
    return TaskData(pool=part(0, scale), test=part(1, scale), classes=())

def net():
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
"""


@pytest.fixture
def far(tmp_path, monkeypatch):
    """Two numbers to predict, far from zero and of other scales."""
    (tmp_path / "far_away.py").write_text(FAR)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    return lambda train=None, **options: Task.load(
        study_of("far_away:data", "far_away:net", task={"options": options}, train={"epochs": 20, **(train or {})})
    )


def test_targets_far_from_zero_are_learned(far):
    """Scores are in the targets' own units, and rates mean the same at any scale."""
    scores = [
        fit(far(scale=scale), FreezingStrategy(freeze_depth=0, head_lr=3e-3), size=100, repeat=1, test=True).scores
        for scale in (1.0, 1000.0)
    ]
    assert scores[0]["test_r2"] > 0.9
    assert scores[0]["test_rmse"] < 3
    assert scores[1]["test_rmse"] == pytest.approx(1000 * scores[0]["test_rmse"], rel=0.01)


def test_scaling_gives_targets_back():
    """A target that never varies keeps its unit."""
    targets = torch.tensor([[290.0, 7.0], [310.0, 7.0]])
    scaling = Scaling.of(targets, classes=(), wanted=None)
    assert scaling.scaled(targets).tolist() == [[-1, 0], [1, 0]]
    assert torch.equal(scaling.back(scaling.scaled(targets)), targets)


def test_balanced_weights_are_inverse_to_frequency():
    """As in scikit-learn; a class that a draw lacks weighs 1."""
    targets = torch.tensor([0, 0, 0, 1])
    weights = Scaling.of(targets, classes=("a", "b", "c"), wanted="balanced").class_weight
    assert weights.tolist() == pytest.approx([4 / 6, 2, 1])
    assert Scaling.of(targets, classes=("a", "b"), wanted={"b": 5.0}).class_weight.tolist() == [1, 5]


def test_class_weight_weighs_the_training_loss_alone():
    """The logged loss is that of the metric."""
    torch.manual_seed(0)
    inputs, targets = torch.randn(6, 4), torch.tensor([0, 0, 0, 0, 0, 1])
    head = nn.Linear(4, 2)
    scaling = Scaling(class_weight=torch.tensor([1.0, 5.0]))
    module = TaskModule(nn.Identity(), head, optimizer=torch.optim.SGD(head.parameters()), scaling=scaling)
    weighed = module.training_step((inputs, targets), 0)
    assert weighed.item() == pytest.approx(cross_entropy(head(inputs), targets, torch.tensor([1.0, 5.0])).item())
    assert torch.equal(module(inputs), head(inputs))


def test_class_weight_of_unknown_classes_is_refused():
    """By name, with what is allowed."""
    with pytest.raises(TaskError, match=r"\[train\] class_weight: 'eleven' is no class; allowed: 0, 1, 2"):
        Task.load(study_of("digits", "small_cnn", train={"class_weight": {"eleven": 2.0}}))


def test_class_weight_of_numbers_is_refused(far):
    """Regression has no classes."""
    with pytest.raises(TaskError, match=r"\[train\] class_weight is for classes"):
        far(train={"class_weight": "balanced"})
