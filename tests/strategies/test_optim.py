import pytest
from torch import nn
from torch.optim import AdamW

from search.tasks.models import small_cnn
from strategies import FreezingStrategy, param_groups

STRATEGY = FreezingStrategy(freeze_depth=1, backbone_lr_ratio=0.5, head_lr=0.01, layer_lr_decay=0.1)


def test_every_parameter_is_in_once_at_its_rate():
    backbone, head = small_cnn(), nn.Linear(64, 10)
    groups = param_groups(backbone, head, STRATEGY)
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in [*backbone.parameters(), *head.parameters()])
    rates = {group["name"]: group["lr"] for group in groups}
    assert rates == pytest.approx(
        {
            "block1": 0.0,
            "block1 (1-D)": 0.0,
            "block2": 0.01 * 0.5 * 0.1**2,
            "block2 (1-D)": 0.01 * 0.5 * 0.1**2,
            "block3": 0.01 * 0.5 * 0.1,
            "block3 (1-D)": 0.01 * 0.5 * 0.1,
            "linear": 0.01 * 0.5,
            "linear (1-D)": 0.01 * 0.5,
            "head": 0.01,
            "head (1-D)": 0.01,
        }
    )


def test_biases_go_without_weight_decay_and_weights_take_the_optimizers_own():
    optimizer = AdamW(param_groups(small_cnn(), nn.Linear(64, 10), STRATEGY), weight_decay=0.05)
    for group in optimizer.param_groups:
        dimensions = {p.ndim > 1 for p in group["params"]}
        assert dimensions == {group["weight_decay"] == 0.05}
