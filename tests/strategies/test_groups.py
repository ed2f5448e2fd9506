import copy
from collections import OrderedDict
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.functional import max_pool2d
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor

from search.models.builtin import small_cnn
from strategies import layer_groups


def names(backbone, groups=None):
    return [group.name for group in layer_groups(backbone, groups=groups)]


def held(backbone):
    return [set(group.parameter_names) for group in layer_groups(backbone)]


RESNET = ["conv1", "layer1", "layer2", "layer3", "layer4"]


def resnet():
    backbone = resnet18()
    backbone.fc = nn.Identity()
    return backbone


class Backwards(nn.Module):
    """Registered in another order than it runs, with branches that only some calls take."""

    def __init__(self):
        super().__init__()
        self.mask = nn.Parameter(torch.zeros(8))
        self.scale = nn.Parameter(torch.ones(()))
        self.drop = nn.Dropout()
        self.auxiliary = nn.Linear(8, 2)
        self.linear = nn.Linear(8, 8)
        self.third, self.norm = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3)
        self.first = nn.Conv2d(3, 8, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x, mask=None):
        self.last_input = x
        if mask is not None:
            x = x * self.mask
        x = max_pool2d(self.second(self.first(x).relu()), 2)
        x = self.drop(self.norm(self.third(x)) * self.scale)
        if self.training:
            self.auxiliary(x)
        return self.linear(x.mean((2, 3)))


def test_order_is_that_of_execution():
    backbone = Backwards()
    assert names(backbone) == ["first", "third", "linear"]
    first, third, linear = held(backbone)
    assert first == {"mask", "first.weight", "first.bias", "second.weight", "second.bias"}
    assert third == {"third.weight", "third.bias", "norm.weight", "norm.bias", "scale"}
    assert linear == {"linear.weight", "linear.bias", "auxiliary.weight", "auxiliary.bias"}


def test_a_dropout_belongs_to_the_part_before_it():
    backbone = Backwards()
    assert [backbone.drop in group.modules for group in layer_groups(backbone)] == [False, True, False]
    assert all(backbone in group.modules for group in layer_groups(backbone)), "a container belongs to all its parts"


def test_layer_groups_leave_the_module_unchanged():
    backbone, state = Backwards(), torch.get_rng_state()
    before = copy.copy(vars(backbone))
    layer_groups(backbone)
    assert vars(backbone) == before
    assert backbone.training
    assert torch.equal(torch.get_rng_state(), state)


class Opaque(nn.Module):
    """Its `forward` depends on values, so it can't be traced."""

    def __init__(self):
        super().__init__()
        self.head_norm, self.stem, self.body = nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.body(self.stem(self.head_norm(x))) if x.sum() > 0 else x


def test_order_is_as_registered_without_a_trace():
    assert names(Opaque()) == ["stem", "body"]
    assert held(Opaque())[0] == {"head_norm.weight", "head_norm.bias", "stem.weight", "stem.bias"}


class HalfOpaque(nn.Module):
    """It can be traced as far as the first question about values, and asks it after two layers."""

    def __init__(self):
        super().__init__()
        self.late, self.body, self.stem, self.last = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x):
        x = self.body(self.stem(x))
        return self.last(self.late(x)) if x.sum() > 0 else x


def test_order_follows_a_trace_as_far_as_it_reaches():
    assert names(HalfOpaque()) == ["stem", "body", "late", "last"]


class Wrapper(nn.Module):
    def __init__(self, model, **more):
        super().__init__()
        self.model = model
        for name, module in more.items():
            self.add_module(name, module)

    def forward(self, *args, **kwargs):
        return self.model(*args, **kwargs)


@pytest.mark.parametrize("wrap", [Wrapper, nn.Sequential, lambda m: Wrapper(Wrapper(m)), nn.DataParallel])
def test_a_wrapper_changes_nothing(wrap):
    assert names(wrap(resnet())) == RESNET


def test_a_network_beside_a_layer_is_opened():
    assert names(nn.Sequential(resnet(), nn.Linear(512, 8))) == [*RESNET, "1"]


def test_a_feature_extractor_has_its_models_groups():
    assert names(create_feature_extractor(resnet18(), ["layer4"])) == RESNET


def test_a_network_called_an_embedding_is_a_network():
    network = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    assert names(nn.Sequential(OrderedDict(embedding_net=network))) == [
        "embedding_net.0",
        "embedding_net.2",
        "embedding_net.4",
    ]
    rnn = OrderedDict(words=nn.Embedding(5, 3), embedder=Wrapper(nn.LSTM(3, 3, num_layers=2)), last=nn.Linear(3, 3))
    assert names(nn.Sequential(rnn)) == ["words", "model.layer0", "model.layer1", "last"]


class ChannelNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 4, 1, 1))


def test_a_child_without_a_matrix_is_no_group():
    scale = nn.ParameterList([torch.ones(4)])
    backbone = nn.Sequential(
        nn.BatchNorm2d(1), nn.Conv2d(1, 4, 1), ChannelNorm(), nn.PReLU(4), nn.Conv2d(4, 4, 1), scale
    )
    assert [len(group) for group in held(backbone)] == [6, 3]
    one_input = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 1))
    assert names(one_input) == ["0", "2"], "a matrix with one column is one"


def layer(channels=4):
    return nn.Conv2d(channels, channels, 3, padding=1)


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        (
            [layer(), nn.ReLU(), nn.MaxPool2d(2), layer(), nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 4)],
            ["0", "3", "5", "6"],
        ),
        ([layer(), layer(), nn.MaxPool2d(2), layer(), nn.BatchNorm2d(4), layer()], ["0", "3"]),
        ([layer(), layer(), layer(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)], ["0", "1", "2", "5"]),
        ([layer(), layer(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 4)], ["0", "1", "4"]),
    ],
)
def test_convolutions_between_two_poolings_make_one_group(chain, expected):
    assert names(nn.Sequential(*chain)) == expected


class UNet(nn.Module):
    """Down, across and up again; registered the other way round."""

    def __init__(self, *, transposed):
        super().__init__()
        self.up = nn.ModuleList([nn.ConvTranspose2d(4, 4, 2, 2) if transposed else nn.Upsample() for _ in range(2)])
        self.after, self.across = nn.ModuleList([layer(8), layer(8)]), layer()
        self.down = nn.ModuleList([layer(), layer()])

    def forward(self, x):
        kept = []
        for down in self.down:
            kept.append(down(x))
            x = max_pool2d(kept[-1], 2)
        x = self.across(x)
        for up, after in zip(self.up, self.after, strict=True):
            x = after(torch.cat([up(x), kept.pop()], 1))
        return x


def test_a_u_nets_decoder_is_apart_from_its_encoder():
    down = ["down.0", "down.1", "across"]
    assert names(UNet(transposed=True)) == [*down, "up.0", "after.0", "up.1", "after.1"]
    assert names(UNet(transposed=False)) == [*down, "after.0", "after.1"]


class ConvNeXt(nn.Module):
    """Two lists that run interleaved, as in the paper's own code."""

    def __init__(self, widths=(4, 8, 16)):
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.GroupNorm(1, 4))
        between = [nn.Sequential(nn.GroupNorm(1, a), nn.Conv2d(a, b, 2, 2)) for a, b in pairwise(widths)]
        self.downsample_layers = nn.ModuleList([stem, *between])
        self.stages = nn.ModuleList([nn.Sequential(layer(w), layer(w)) for w in widths])

    def forward(self, x):
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
        return x


def test_interleaved_lists_are_taken_in_turn():
    assert names(ConvNeXt()) == ["downsample_layers.0", "stages.0", "stages.1", "stages.2"]
    assert "downsample_layers.1.1.weight" in held(ConvNeXt())[2]


def test_transformer_blocks_are_not_taken_apart():
    block = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
    encoder = nn.TransformerEncoder(block, 2, norm=nn.LayerNorm(8), enable_nested_tensor=False)
    assert names(encoder) == ["layers.0", "layers.1"]
    text = nn.Sequential(OrderedDict(pos_encoding=nn.Linear(8, 8), words=nn.Embedding(9, 8), encoder=encoder))
    assert names(text) == ["pos_encoding", "layers.0", "layers.1"], "embeddings are one group, wherever they stand"


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_each_layer_of_an_rnn_is_a_group(kind, bidirectional, bias):
    rnn = kind(3, 4, num_layers=12, bidirectional=bidirectional, bias=bias)
    groups = layer_groups(rnn)
    assert [group.name for group in groups] == [f"layer{k}" for k in range(12)]
    for k, group in enumerate(groups):
        expected = {f"{n}_l{k}" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if bias or "weight" in n}
        expected |= {f"{n}_reverse" for n in expected} if bidirectional else set()
        assert set(group.parameter_names) == expected
        assert group.modules == (rnn,)


def test_an_rnn_is_split_wherever_it_stands():
    many = nn.Sequential(
        *(nn.Linear(3, 3) for _ in range(5)), Wrapper(nn.LSTM(3, 3, num_layers=2), out=nn.Linear(3, 3))
    )
    assert names(many) == ["0", "1", "2", "3", "4", "model.layer0", "model.layer1", "out"]
    tagger = nn.Sequential(OrderedDict(words=nn.Embedding(5, 3), lstm=nn.LSTM(3, 3, num_layers=2), out=nn.Linear(3, 3)))
    assert names(tagger) == ["words", "lstm.layer0", "lstm.layer1", "out"]


def test_patterns_override():
    groups = layer_groups(small_cnn(), groups=["block[12].*", "*"])
    assert [group.name for group in groups] == ["block[12].*", "*"]
    assert [sum(p.numel() for p in group.parameters) for group in groups] == [4800, 34944]


def test_patterns_reach_into_an_rnn():
    groups = layer_groups(nn.LSTM(3, 4, num_layers=11), groups=["*_l0", "*_l1", "*"])
    assert [len(group.parameters) for group in groups] == [4, 4, 36]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [(["block*"], "matches the parameter 'linear.1.weight'"), (["*", "head.*"], "'head.*' of `groups` matches no")],
)
def test_patterns_that_do_not_fit_are_named(patterns, message):
    with pytest.raises(ValueError, match=message):
        layer_groups(small_cnn(), groups=patterns)


def test_weights_without_a_shape_are_refused():
    with pytest.raises(ValueError, match=r"lazy parameter '0\.weight' has no shape yet: run one batch"):
        layer_groups(nn.Sequential(nn.LazyLinear(3), nn.LazyLinear(3)))
    assert len(layer_groups(nn.Linear(3, 3), head=nn.LazyLinear(3))) == 1


def test_a_backbone_without_parameters_is_refused():
    with pytest.raises(ValueError, match="no parameters"):
        layer_groups(nn.Flatten())


def test_a_head_inside_the_backbone_is_left_out():
    whole = resnet18()
    groups = layer_groups(whole, head=whole.fc)
    assert [group.name for group in groups] == RESNET
    apart = resnet()
    for group, other in zip(groups, layer_groups(apart), strict=True):
        assert group.parameter_names == other.parameter_names
        places = [
            [name for name, m in net.named_modules() if m in g.modules] for net, g in ((whole, group), (apart, other))
        ]
        assert places[0] == [name for name in places[1] if name != "fc"]
    assert isinstance(whole.fc, nn.Linear)
    three = nn.Sequential(nn.Sequential(nn.Sequential(layer(), layer()), nn.Linear(4, 4)), nn.Linear(4, 2))
    assert names(three[0]) == [name.removeprefix("0.") for name in (g.name for g in layer_groups(three, head=three[1]))]
