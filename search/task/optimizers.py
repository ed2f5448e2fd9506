"""The optimizers by name."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from search.spec.tables import Train

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "sgd": lambda groups, **options: torch.optim.SGD(groups, momentum=0.9, **options),
}


def build_optimizer(train: Train, groups: Any) -> Optimizer:
    """Build the study's fused optimizer over parameter groups with their own learning rates.

    Fused AdamW takes a tenth off a ResNet-18's training on a CPU. It rounds otherwise than torch's default, so
    training a saved strategy to the same digits takes `fused=True` as well.
    """
    return OPTIMIZERS[train.optimizer](groups, weight_decay=train.weight_decay, fused=True)
