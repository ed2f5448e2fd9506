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

    Raises `ValueError` if backbone and head share parameters, or as `layer_groups` does.
    """
    check_apart(backbone, head)
    layers = layer_groups(backbone, groups=groups)
    shares = strategy.schedule(len(layers)).lr_shares
    result: list[dict[str, Any]] = []
    for name, parameters, share, pulled in [
        *((g.name, g.parameters, share, strategy.pulls_back) for g, share in zip(layers, shares, strict=True)),
        ("head", tuple(head.parameters()), 1.0, False),
    ]:
        lr = strategy.head_lr * share
        matrices = {"params": [p for p in parameters if p.ndim > 1], "lr": lr, "initial_lr": lr, "name": name}
        vectors = {**matrices, "params": [p for p in parameters if p.ndim <= 1], "name": f"{name} (1-D)"}
        no_decay = {"weight_decay": 0.0}
        result += [matrices | (no_decay if pulled else {}), vectors | no_decay]
    return [group for group in result if group["params"]]


def check_apart(backbone: nn.Module, head: nn.Module) -> None:
    """Raise `ValueError` if backbone and head share parameters."""
    heads = set(head.parameters())
    tied = [name for name, parameter in backbone.named_parameters(remove_duplicate=False) if parameter in heads]
    if tied:
        raise ValueError(f"Parameters are shared between backbone and head: {', '.join(tied)}.")
