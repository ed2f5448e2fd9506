"""Weights in several places: they are in the first group that uses them, and freeze and train as one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Callback
from torch import nn
from torch.nn.utils.parametrize import register_parametrization
from torch.optim import SGD

from strategies import FreezingCallback, FreezingStrategy, layer_groups, param_groups
from strategies.freeze import set_trainable
from tests.strategies.learner import EPOCHS, Module, loader, trainer


class Borrowed(nn.Module):
    """A parametrization that takes another layer's weight."""

    def __init__(self, other):
        super().__init__()
        self.other = other

    def forward(self, weight):
        return self.other.weight.T + weight


@st.composite
def tied_chains(draw):
    """Draw a chain of layers, some tied to an earlier one, and the first place of each one's weight."""
    layers, first = [], []
    for index in range(draw(st.integers(2, 6))):
        layer, earlier = nn.Linear(3, 3), draw(st.integers(0, index))
        kind = draw(st.sampled_from(["module", "parameter", "data", "transposed", "parametrized"]))
        if earlier < index and type(layers[earlier]) is nn.Linear:
            other = layers[earlier]
            if kind == "module":
                layer = other
            elif kind == "parameter":
                layer.weight = other.weight
            elif kind == "parametrized":
                register_parametrization(layer, "weight", Borrowed(other))
            else:
                layer.weight.data = other.weight.data if kind == "data" else other.weight.data.T
            first.append(index if kind == "parametrized" else first[earlier])
        else:
            first.append(index)
        layers.append(layer)
    return nn.Sequential(*layers), first


@given(tied_chains())
def test_tied_weights_are_in_the_first_group_that_uses_them(case):
    backbone, first = case
    groups = layer_groups(backbone)
    held = [parameter for group in groups for parameter in group.parameters]
    assert len(held) == len(set(held))
    assert set(held) == set(backbone.parameters())
    names = {parameter: group.name for group in groups for parameter in group.parameters}
    for layer, place in zip(backbone, first, strict=True):
        own = layer.parametrizations.weight.original if hasattr(layer, "parametrizations") else layer.weight
        assert names[own] == str(place)
    for group in groups:
        pairs = zip(group.parameter_names, group.parameters, strict=True)
        assert all(backbone.get_parameter(name) is parameter for name, parameter in pairs)


@given(tied_chains(), st.integers(0, 6))
def test_frozen_groups_stay_as_they_are_with_tied_weights(case, depth):
    backbone, _ = case
    groups = layer_groups(backbone)
    set_trainable(groups, [index >= depth for index in range(len(groups))])
    before = [[parameter.detach().clone() for parameter in group.parameters] for group in groups]
    optimizer = SGD(backbone.parameters(), lr=0.1)
    for _ in range(2):
        loss = backbone(torch.randn(4, 3)).square().sum()
        if loss.requires_grad:
            loss.backward()
        optimizer.step()
    for index, (group, start) in enumerate(zip(groups, before, strict=True)):
        moved = [not torch.equal(one, other) for one, other in zip(group.parameters, start, strict=True)]
        assert any(moved) == (index >= depth)


def test_a_module_registered_late_is_where_it_first_runs():
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            words = nn.Embedding(5, 3)
            self.decoder = nn.Sequential(words, nn.Linear(3, 3))
            self.encoder = nn.Sequential(words, nn.Linear(3, 3))
            self.last = nn.Linear(3, 3)

        def forward(self, x):
            return self.last(self.encoder(x) + self.decoder(x))

    groups = layer_groups(Late())
    assert groups[0].parameter_names[0] == "encoder.0.weight"
    assert sum(len(group.parameters) for group in groups) == 7


def test_modules_with_tied_weights_alone_join_the_group_before():
    block, copy = (nn.Sequential(nn.Linear(3, 3, bias=False), nn.Dropout()) for _ in range(2))
    copy[0].weight = block[0].weight
    groups = layer_groups(nn.Sequential(block, nn.Linear(3, 3), copy))
    assert [group.name for group in groups] == ["0", "1"]
    set_trainable(groups, (False, True))
    assert (block[1].training, copy[1].training) == (False, True), "a dropout is the part's, not the weight's"
    set_trainable(groups, (False, False))
    assert not copy[1].training


def test_a_group_may_be_several_patterns():
    backbone = nn.Sequential(*(nn.Linear(3, 3) for _ in range(4)))
    backbone[3].weight = backbone[0].weight
    groups = layer_groups(backbone, groups=[["0.*", "2.*"], ("1.*",), "3.*"])
    assert [group.name for group in groups] == ["0.*, 2.*", "1.*", "3.*"]
    assert [len(group.parameters) for group in groups] == [4, 2, 1]
    del backbone[3]
    with pytest.raises(ValueError, match=r"pattern '1\.\*, 0\.\*' of `groups` matches no parameter of its own"):
        layer_groups(backbone, groups=["[01].*", ["1.*", "0.*"], "*"])


def transformers_backbone(name):
    transformers = pytest.importorskip("transformers")
    if name == "T5":
        return transformers.T5Model(
            transformers.T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=2, num_heads=2)
        )
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = transformers.BartConfig(vocab_size=20, d_model=8, encoder_ffn_dim=8, decoder_ffn_dim=8, **sizes)
    return transformers.BartModel(config)


@pytest.mark.parametrize("name", ["T5", "BART"])
@pytest.mark.parametrize("patterns", [None, [["*shared*", "*embed_tokens*"], "*encoder*", "*decoder*"]])
def test_an_encoder_decoders_embeddings_are_its_first_group(name, patterns):
    backbone = transformers_backbone(name)
    groups = layer_groups(backbone, groups=patterns)
    assert backbone.shared.weight in groups[0].parameters
    held = [parameter for group in groups for parameter in group.parameters]
    assert len(held) == len(set(held))
    assert set(held) == set(backbone.parameters())


class Tied(Module):
    def __init__(self, strategy):
        super().__init__(strategy)
        self.backbone[2][0].weight = self.backbone[0][0].weight

    def training_step(self, batch, index):
        torch.manual_seed(self.global_step)
        return super().training_step(batch, index)


def test_a_run_with_tied_weights_resumes(tmp_path):
    strategy = FreezingStrategy(freeze_depth=0, unfreeze_epoch=1, epochs_per_group=1, head_lr=0.05, l2_sp=0.1)
    seen = []

    class Save(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            seen.append(pl_module.backbone[2][0].weight.detach().clone())
            trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch}.ckpt")

    whole = Tied(strategy)
    start = whole.backbone[0][0].weight.detach().clone()
    trainer(FreezingCallback(strategy), Save()).fit(whole, loader())
    assert [torch.equal(weight, start) for weight in seen] == [True] * 3 + [False] * 3, "with the first group"
    for epoch in range(EPOCHS - 1):
        resumed = Tied(strategy)
        trainer(FreezingCallback(strategy)).fit(resumed, loader(), ckpt_path=tmp_path / f"{epoch}.ckpt")
        for name, tensor in whole.state_dict().items():
            assert torch.equal(tensor, resumed.state_dict()[name]), (epoch, name)


@pytest.mark.parametrize("tie", ["parameter", "data"])
def test_a_head_tied_to_the_backbone_is_refused_with_a_remedy(tie):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.body, self.out = nn.Embedding(5, 3), nn.Linear(3, 3), nn.Linear(3, 5, bias=False)
            if tie == "parameter":
                self.out.weight = self.words.weight
            else:
                self.out.weight.data = self.words.weight.data

        def forward(self, x):
            return self.out(self.body(self.words(x)))

    whole, strategy = Model(), FreezingStrategy(freeze_depth=1)
    for backbone in (nn.Sequential(whole.words, whole.body), whole):
        with pytest.raises(
            ValueError, match=r"shared between backbone and head: .*Untie the head by a copy, head\.weight"
        ):
            param_groups(backbone, whole.out, strategy)
    held = [p for group in param_groups(whole, nn.Identity(), strategy) for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == set(whole.parameters()), "the other remedy"
    whole.out.weight = nn.Parameter(whole.out.weight.detach().clone())
    assert [group["name"] for group in param_groups(whole, whole.out, strategy)] == [
        "words",
        "body",
        "body (1-D)",
        "head",
    ]
