"""Backbones that can't be cut between all their layer groups: what is left, and the reason that is said."""

import pytest
import torch
from torch import nn
from torch.nn.functional import dropout

from search.activations.boundaries import Boundaries, PartialInputs
from strategies import layer_groups
from tests.search.activations.backbones import Untraceable, vectors


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
    """A parameter of the last group has a part in the first group's value, and symbols can't follow."""

    def forward(self, x):
        assert torch.isfinite(x).all()
        return self.three(self.two(self.one(x * self.three.weight.diagonal())))


class Failing(Backwards):
    """Code that runs on no single example."""

    def forward(self, x):
        assert len(x) > 1
        return self.three(self.two(self.one(x)))


@pytest.mark.parametrize("kind", [Backwards, Leaking])
def test_where_groups_form_no_repeat_only_features_are_left_and_the_reason_is_said(kind):
    backbone, x = kind(), torch.randn(4, 8)
    groups = layer_groups(backbone, groups=["one.*", "two.*", "three.*"])
    cuts = Boundaries.of(backbone, groups, x)
    assert cuts.boundaries == (3,)
    assert cuts.reason
    assert not cuts.needs_inputs(3)
    stages = cuts.on(backbone)
    torch.testing.assert_close(stages.onward(PartialInputs(3, stages.until(x, 3), None)), backbone(x))


@pytest.mark.parametrize("kind", [Mixing, Noisy, Failing])
def test_where_features_are_no_function_of_each_example_nothing_is_left(kind):
    backbone = kind()
    cuts = Boundaries.of(backbone, layer_groups(backbone, groups=["one.*", "two.*", "three.*"]), torch.randn(4, 8))
    assert cuts.boundaries == ()
    assert cuts.reason == "what it makes of an example depends on the others, or on chance"


def test_where_it_is_not_cut_it_says_where_it_is():
    backbone, x = Leaking(), vectors()
    stages = Boundaries.of(backbone, layer_groups(backbone), x).on(backbone)
    with pytest.raises(ValueError, match="at 1, only at 3"):
        stages.until(x, 1)


def test_what_drops_out_as_long_as_anything_trains_is_no_constant():
    class Dropping(Untraceable):
        def forward(self, x):
            assert torch.isfinite(x).all()
            one, two, three, four = self.layers
            return four(three(dropout(two(one(x)), 0.5, self.training)))

    backbone = Dropping()
    cuts = Boundaries.of(backbone, layer_groups(backbone), vectors())
    assert cuts.boundaries == (1, 2, 4)  # behind the third layer lies what was dropped before it


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_what_cannot_be_copied_has_its_features():
    backbone = nn.Sequential(nn.utils.weight_norm(nn.Linear(8, 8)), nn.Linear(8, 8))
    backbone(vectors())  # from now on it holds a tensor that is made of parameters
    cuts = Boundaries.of(backbone, layer_groups(backbone), vectors())
    assert cuts.boundaries == (2,)
    assert "copied" in cuts.reason
    assert backbone.training
