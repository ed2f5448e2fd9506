"""A strategy's learning rates as an optimizer's parameter groups."""

from typing import Any

from torch import nn

from strategies.groups import Groups, layer_groups
from strategies.strategy import FreezingStrategy


def param_groups(
    backbone: nn.Module, head: nn.Module, strategy: FreezingStrategy, *, groups: Groups | None = None
) -> list[dict[str, Any]]:
    """Return parameter groups with layer-wise learning rates: `AdamW(param_groups(...))`.

    All parameters are in from the start, input side first and the head last, so no scheduler ever meets a new group.
    Frozen ones have no gradient and get no step. Each layer group makes two. Its 1-D parameters (biases, norms) have no
    weight decay; the others have the optimizer's own, or none if `l2_sp` replaces it. `name` is the layer group's, for
    `LearningRateMonitor`. `FreezingCallback` multiplies `initial_lr` if the strategy moves rates.

    groups: as in `layer_groups`.

    One of backbone and head may hold the other, and then is the rest. All else that is to train goes into the head:
    `nn.ModuleList([decoder, last])`. Raises `ValueError` as `layer_groups` does.
    """
    layers = layer_groups(backbone, groups=groups, head=head)
    held = {parameter for group in layers for parameter in group.parameters}
    shares = strategy.schedule(len(layers)).lr_shares
    result: list[dict[str, Any]] = []
    for name, parameters, share, pulled in [
        *((g.name, g.parameters, share, strategy.pulls_back) for g, share in zip(layers, shares, strict=True)),
        ("head", tuple(p for p in head.parameters() if p not in held), 1.0, False),
    ]:
        lr = strategy.head_lr * share
        matrices = {"params": [p for p in parameters if p.ndim > 1], "lr": lr, "initial_lr": lr, "name": name}
        vectors = {**matrices, "params": [p for p in parameters if p.ndim <= 1], "name": f"{name} (1-D)"}
        no_decay = {"weight_decay": 0.0}
        result += [matrices | (no_decay if pulled else {}), vectors | no_decay]
    return [group for group in result if group["params"]]
