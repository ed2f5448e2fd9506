"""Backbones that can't be cut between all their layer groups: what is left, and the reason that is said."""

import pytest
import torch
from torch import nn
from torch.nn.functional import dropout

from search.activations.boundaries import Boundaries, PartialInputs
from strategies import layer_groups
from tests.search.activations.backbones import Looking, vectors


class Backwards(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        return self.one(self.two(self.three(x)))


class Mixing(Backwards):
    """Each example's value depends on the others."""

    def forward(self, x):
        return self.three(self.two(self.one(x - x.mean(0))))


class Noisy(Backwards):
    """No constant: each call gives another value."""

    def forward(self, x):
        return self.three(self.two(self.one(x) + torch.randn_like(x)))


class Leaking(Backwards):
    """A parameter of the last group has a part in the first group's value."""

    def forward(self, x):
        assert torch.isfinite(x).all()
        return self.three(self.two(self.one(x * self.three.weight.diagonal())))


class Failing(Backwards):
    """Code that runs on no single example."""

    def forward(self, x):
        assert len(x) > 1
        return self.three(self.two(self.one(x)))


@pytest.mark.parametrize("kind", [Backwards, Leaking])
def test_groups_in_no_order_leave_only_features(kind):
    backbone, x = kind(), torch.randn(4, 8)
    groups = layer_groups(backbone, groups=["one.*", "two.*", "three.*"])
    boundaries = Boundaries.of(backbone, groups, x)
    assert boundaries.indices == (3,)
    assert boundaries.search.reason
    assert not boundaries.needs_inputs(3)
    partial = boundaries.on(backbone)
    torch.testing.assert_close(partial.run_from(PartialInputs(3, partial.run_to(x, 3), None)), backbone(x))


@pytest.mark.parametrize("kind", [Mixing, Noisy, Failing])
def test_features_that_mix_examples_leave_nothing(kind):
    backbone = kind()
    boundaries = Boundaries.of(
        backbone, layer_groups(backbone, groups=["one.*", "two.*", "three.*"]), torch.randn(4, 8)
    )
    assert boundaries.indices == ()
    assert boundaries.search.reason == "what it makes of an example depends on the others, or on chance"


def test_another_boundary_is_refused():
    backbone, x = Leaking(), vectors()
    partial = Boundaries.of(backbone, layer_groups(backbone), x).on(backbone)
    with pytest.raises(ValueError, match="at 1, only at 3"):
        partial.run_to(x, 1)


def test_dropout_while_anything_trains_is_no_constant():
    class Dropping(Looking):
        def forward(self, x):
            assert torch.isfinite(x).all()
            one, two, three, four = self.layers
            return four(three(dropout(two(one(x)), 0.5, self.training)))

    backbone = Dropping()
    boundaries = Boundaries.of(backbone, layer_groups(backbone), vectors())
    assert boundaries.indices == (1, 2, 4)  # behind the third layer lies what was dropped before it


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_a_backbone_that_cannot_be_copied_has_features():
    backbone = nn.Sequential(nn.utils.weight_norm(nn.Linear(8, 8)), nn.Linear(8, 8))
    backbone(vectors())  # from now on it holds a tensor that is made of parameters
    boundaries = Boundaries.of(backbone, layer_groups(backbone), vectors())
    assert boundaries.indices == (2,)
    assert "copied" in boundaries.search.reason
    assert backbone.training
