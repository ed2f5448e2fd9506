"""Where between two layer groups a cut lies, and what is kept there."""

import weakref

import torch
from torch import Tensor, nn

from search.activations.boundaries import Boundaries, PartialInputs
from search.models.builtin import StackedLSTM, small_cnn
from strategies import layer_groups
from tests.search.activations.backbones import cut_series


def test_a_last_layers_state_keeps_no_other_layers():
    backbone = StackedLSTM(input_size=3, hidden_size=8)
    cuts = Boundaries.of(backbone, layer_groups(backbone), cut_series())
    assert cuts.shapes(1) == cuts.shapes(2) == ((7, 8), ())  # the padded series and its length


def test_fewest_bytes_decide_where_between_two_groups_a_cut_lies():
    """Behind the pooling, not before it; and at the same size behind the activation."""
    backbone = small_cnn()
    cuts = Boundaries.of(backbone, layer_groups(backbone), torch.randn(4, 1, 8, 8))
    assert cuts.shapes(1) == ((16, 8, 8),)
    assert cuts.shapes(2) == ((32, 4, 4),)
    values = cuts.on(backbone).until(torch.randn(4, 1, 8, 8), 1)
    assert values[0].min() >= 0


def test_the_number_of_examples_does_not_take_the_inputs():
    class Sized(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.three = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4 * 16, 5)

        def forward(self, x):
            return self.three(self.two(self.one(x)).view(x.size(0), -1))

    backbone = Sized()
    cuts = Boundaries.of(backbone, layer_groups(backbone), torch.randn(4, 1, 8, 8))
    assert cuts.boundaries == (1, 2, 3)
    assert not cuts.needs_inputs(1)
    x = torch.randn(7, 1, 8, 8)  # another batch size than it was found with
    torch.testing.assert_close(
        cuts.on(backbone).onward(PartialInputs(1, cuts.on(backbone).until(x, 1), None)), backbone(x)
    )


def test_results_are_dropped_after_their_last_use():
    """Otherwise a run through many groups would hold the activations of all."""
    alive: list[weakref.ref[Tensor]] = []

    class Watched(nn.Linear):
        def forward(self, x):
            assert all(tensor() is None or tensor() is x for tensor in alive)
            out = super().forward(x)
            alive.append(weakref.ref(out))
            return out

    backbone = nn.Sequential(*(Watched(4, 4) for _ in range(5)))
    x = torch.randn(4, 4)
    plain = nn.Sequential(*(nn.Linear(4, 4) for _ in range(5)))
    stages = Boundaries.of(plain, layer_groups(plain), x).on(backbone)
    stages.until(PartialInputs(1, stages.until(x, 1), None), 5)
    assert len(alive) == 5
