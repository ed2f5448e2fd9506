"""A strategy's learning rates as an optimizer's parameter groups."""

from typing import Any

from torch import nn

from strategies.groups import Groups, layer_groups
from strategies.strategy import FreezingStrategy


def param_groups(
    backbone: nn.Module, head: nn.Module, strategy: FreezingStrategy, *, groups: Groups | None = None
) -> list[dict[str, Any]]:
    """Parameter groups with layer-wise learning rates, for any torch optimizer: `AdamW(param_groups(...))`.

    All parameters are in from the start, input side first and the head last, so that no scheduler ever meets
    a new group; what is frozen has no gradient and is passed over. A layer group makes two: its 1-D
    parameters (biases, norms) go without weight decay, the others take the optimizer's own, or none where
    `l2_sp` stands in its place. `name` is the layer group's, for `LearningRateMonitor`; `initial_lr` is what
    `FreezingCallback` multiplies where the strategy moves rates. `groups` as in `layer_groups`.

    Raises `ValueError` if backbone and head share parameters, or as `layer_groups` does.
    """
    check_apart(backbone, head)
    parts = layer_groups(backbone, groups=groups)
    shares = strategy.schedule(len(parts)).lr_shares
    result: list[dict[str, Any]] = []
    for name, parameters, share, undecayed in [
        *((part.name, part.parameters, share, strategy.pulls_back) for part, share in zip(parts, shares, strict=True)),
        ("head", tuple(head.parameters()), 1.0, False),
    ]:
        lr = strategy.head_lr * share
        rates = {"lr": lr, "initial_lr": lr}
        decayed = [p for p in parameters if p.ndim > 1]
        plain = [p for p in parameters if p.ndim <= 1]
        if decayed:
            group = {"params": decayed, **rates, "name": name}
            result.append({**group, "weight_decay": 0.0} if undecayed else group)
        if plain:
            result.append({"params": plain, **rates, "name": f"{name} (1-D)", "weight_decay": 0.0})
    return result


def check_apart(backbone: nn.Module, head: nn.Module) -> None:
    """Raises `ValueError` if the two share parameters: what is frozen in one would train in the other."""
    tops = set(head.parameters())
    tied = [name for name, parameter in backbone.named_parameters(remove_duplicate=False) if parameter in tops]
    if tied:
        raise ValueError(f"Parameters are shared between backbone and head: {', '.join(tied)}.")
