import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2, resnet18

from search.tasks.models import small_cnn
from strategies import layer_groups
from strategies.groups import set_trainable


def names(backbone, groups=None):
    return [group.name for group in layer_groups(backbone, groups=groups)]


def test_a_chain_of_stages_is_its_children_in_order():
    assert names(small_cnn()) == ["block1", "block2", "block3", "linear"]


def test_a_norm_joins_the_group_before_it():
    backbone = resnet18()
    backbone.fc = nn.Identity()
    assert names(backbone) == ["conv1", "layer1", "layer2", "layer3", "layer4"]


def test_an_only_child_is_entered():
    backbone = mobilenet_v2()
    backbone.classifier = nn.Identity()
    assert len(names(backbone)) == 19


def test_every_parameter_is_in_one_group():
    backbone = resnet18()
    owned = [id(p) for group in layer_groups(backbone) for p in group.parameters]
    assert sorted(owned) == sorted(id(p) for p in backbone.parameters())


def test_patterns_override():
    groups = layer_groups(small_cnn(), groups=["block[12].*", "*"])
    assert [sum(p.numel() for p in group.parameters) for group in groups] == [4800, 34944]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [(["block*"], "matches the parameter 'linear.1.weight'"), (["*", "head.*"], "'head.*' of `groups` matches no")],
)
def test_patterns_that_do_not_fit_are_named(patterns, message):
    with pytest.raises(ValueError, match=message):
        layer_groups(small_cnn(), groups=patterns)


def test_tied_weights_are_noticed():
    one, other = nn.Linear(3, 3), nn.Linear(3, 3)
    other.weight = one.weight
    with pytest.raises(ValueError, match=r"shared between layer groups: 0.weight, 1.weight"):
        layer_groups(nn.Sequential(one, other))


def test_a_backbone_without_parameters_is_refused():
    with pytest.raises(ValueError, match="no parameters"):
        layer_groups(nn.Flatten())


def test_frozen_means_eval_and_no_gradient_and_thawed_means_train():
    backbone = nn.Sequential(
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout()),
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout()),
    )
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


def test_dropout_between_stages_goes_with_the_one_before():
    backbone = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 4))
    set_trainable(layer_groups(backbone), (False, True))
    assert [m.training for m in backbone] == [False, False, True]
    assert backbone.training, "a container trains while any of its parts does"
