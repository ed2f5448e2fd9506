"""A strategy's learning rates as an optimizer's parameter groups."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from strategies.groups import layer_groups
from strategies.strategy import FreezingStrategy


def param_groups(
    backbone: nn.Module, head: nn.Module, strategy: FreezingStrategy, *, groups: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Parameter groups with layer-wise learning rates, for any torch optimizer: `AdamW(param_groups(...))`.

    All parameters are in from the start, input side first and the head last, so that no scheduler ever meets
    a new group; what is frozen has no gradient and is passed over. A layer group makes two: its 1-D
    parameters (biases, norms) go without weight decay, the others take the optimizer's own. `name` is the
    layer group's, for `LearningRateMonitor`. `groups` as in `layer_groups`.
    """
    parts = layer_groups(backbone, groups=groups)
    shares = strategy.schedule(len(parts)).lr_shares
    result: list[dict[str, Any]] = []
    for name, parameters, share in [
        *((part.name, part.parameters, share) for part, share in zip(parts, shares, strict=True)),
        ("head", tuple(head.parameters()), 1.0),
    ]:
        lr = strategy.head_lr * share
        decayed = [p for p in parameters if p.ndim > 1]
        plain = [p for p in parameters if p.ndim <= 1]
        if decayed:
            result.append({"params": decayed, "lr": lr, "name": name})
        if plain:
            result.append({"params": plain, "lr": lr, "name": f"{name} (1-D)", "weight_decay": 0.0})
    return result
