from collections import OrderedDict
from dataclasses import replace

import pytest
from torch import nn
from torch.optim import AdamW

from strategies import FreezingStrategy, param_groups


def small_net():
    return nn.Sequential(
        OrderedDict(
            block1=nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()),
            block2=nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
            block3=nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()),
            linear=nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU()),
        )
    )


STRATEGY = FreezingStrategy(freeze_depth=1, backbone_lr_ratio=0.5, head_lr=0.01, layer_lr_decay=0.1)


def test_param_groups_hold_each_parameter_once():
    backbone, head = small_net(), nn.Linear(8, 10)
    groups = param_groups(backbone, head, STRATEGY)
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in [*backbone.parameters(), *head.parameters()])
    rates = {group["name"]: group["lr"] for group in groups}
    assert rates == {group["name"]: group["initial_lr"] for group in groups}
    expected = {"block1": 0.0, "block2": 0.5 * 0.1**2, "block3": 0.5 * 0.1, "linear": 0.5, "head": 1.0}
    assert rates == pytest.approx({f"{n}{d}": 0.01 * r for n, r in expected.items() for d in ("", " (1-D)")})


def test_only_matrices_have_weight_decay():
    optimizer = AdamW(param_groups(small_net(), nn.Linear(8, 10), STRATEGY), weight_decay=0.05)
    for group in optimizer.param_groups:
        dimensions = {p.ndim > 1 for p in group["params"]}
        assert dimensions == {group["weight_decay"] == 0.05}


def test_l2_sp_replaces_the_backbones_weight_decay():
    for pretrained, decay in ((True, 0.0), (False, 0.05)):
        strategy = replace(STRATEGY, l2_sp=0.1, pretrained=pretrained)
        optimizer = AdamW(param_groups(small_net(), nn.Linear(8, 10), strategy), weight_decay=0.05)
        decays = {group["name"]: group["weight_decay"] for group in optimizer.param_groups}
        assert decays["block1"] == decays["linear"] == decay
        assert decays["head"] == 0.05
