import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from strategies import FreezingStrategy, layer_groups
from strategies.freeze import set_trainable, trained_parameters
from strategies.groups import LayerGroup


def stage():
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout())


def test_set_trainable_sets_modes_and_gradients():
    backbone = nn.Sequential(stage(), stage())
    set_trainable(layer_groups(backbone), (False, True))
    first, second = backbone
    assert [m.training for m in first.modules()] == [False] * 4
    assert [m.training for m in second.modules()] == [True] * 4
    assert not any(p.requires_grad for p in first.parameters())
    assert all(p.requires_grad for p in second.parameters())
    before = first[1].running_mean.clone()
    backbone(torch.randn(8, 4)).sum().backward()
    assert torch.equal(first[1].running_mean, before)
    assert all(p.grad is None for p in first.parameters())


def test_freezing_drops_old_gradients():
    backbone = nn.Sequential(stage(), stage())
    backbone(torch.randn(8, 4)).sum().backward()
    set_trainable(layer_groups(backbone), (False, True))
    assert [p.grad is None for p in backbone.parameters()] == [True] * 4 + [False] * 4


# -- which parameters of an unfrozen group train -----------------------------------------------------------


class RootMeanSquareNorm(nn.Module):
    """Somebody's own norm: it is known by its name."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, inputs):
        return inputs * self.scale


class BatchNormNet(nn.Sequential):
    """A network that uses norms, but is none."""


def mixed():
    norms = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.LayerNorm(4), RootMeanSquareNorm())
    rest = nn.Sequential(nn.LSTM(4, 4, proj_size=2), nn.Linear(2, 4, bias=False))
    rest.register_parameter("relative_bias_table", nn.Parameter(torch.zeros(3, 3)))
    return BatchNormNet(norms, rest)


ALL = {name for name, _ in mixed().named_parameters()}
BATCH_NORM = {"0.1.weight", "0.1.bias"}
NORM = BATCH_NORM | {"0.2.weight", "0.2.bias", "0.3.scale"}
BIAS = {"0.0.bias", "0.1.bias", "0.2.bias", "1.0.bias_ih_l0", "1.0.bias_hh_l0"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ALL),
        ({"parameters": "norm"}, NORM),
        ({"parameters": "bias"}, BIAS),
        ({"batch_norm": "frozen"}, ALL - BATCH_NORM),
        ({"parameters": "norm", "batch_norm": "frozen"}, NORM - BATCH_NORM),
        ({"parameters": "bias", "batch_norm": "frozen"}, BIAS - BATCH_NORM),
    ],
)
def test_parameters_and_batch_norm_choose_what_trains(fields, expected):
    backbone = mixed()
    groups = layer_groups(backbone, groups=["0.*", "1.*"])
    set_trainable(groups, (True, True), **fields)
    assert {name for name, p in backbone.named_parameters() if p.requires_grad} == expected
    strategy = FreezingStrategy(freeze_depth=0, **fields)
    assert set(trained_parameters(groups, strategy)) == expected
    halved = FreezingStrategy(freeze_depth=1, **fields)
    assert set(trained_parameters(groups, halved)) == {name for name in expected if name.startswith("1.")}


# -- layers of one recurrent network ---------------------------------------------------------------------


def rnn_groups(rnn):
    """One group a layer, as tensors' names say."""
    layers = []
    for layer in range(rnn.num_layers):
        ends = (f"_l{layer}", f"_l{layer}_reverse")
        named = [(name, p) for name, p in rnn.named_parameters() if name.endswith(ends)]
        names, parameters = zip(*named, strict=True)
        layers.append(LayerGroup(name=f"layer{layer}", parameters=parameters, modules=(rnn,), parameter_names=names))
    return layers


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=6))
def test_a_partly_frozen_lstm_has_no_dropout(phases):
    rnn = nn.LSTM(3, 4, num_layers=3, dropout=0.4, bidirectional=True)
    groups = rnn_groups(rnn)
    for trainable in phases:
        set_trainable(groups, trainable)
        assert rnn.training == any(trainable), "cuDNN has no backward pass in eval mode"
        assert (rnn.dropout if rnn.training else 0.0) == (0.4 if all(trainable) else 0.0)
    set_trainable(rnn_groups(rnn), (True, True, True))
    assert rnn.dropout == 0.4
