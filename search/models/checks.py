"""Checks of a backbone on examples: width of its features, order of its layer groups."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from search.data.examples import Tensors, tensors_of
from search.errors import TaskError
from search.user_code import one_line
from strategies import LayerGroup


def feature_width(backbone: nn.Module, inputs: Tensors) -> int:
    """Return the width F of the backbone's features. Raises `TaskError` unless they are (N, F)."""
    size = len(tensors_of(inputs)[0])
    shapes = {k: tuple(v.shape) for k, v in inputs.items()} if isinstance(inputs, dict) else tuple(inputs.shape)
    was_training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            features = backbone(inputs)
    except Exception as error:
        raise TaskError(f"[model] backbone fails on inputs of shape {shapes}: {one_line(error)}") from error
    finally:
        backbone.train(was_training)
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != size:
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise TaskError(f"[model] backbone must return features of shape ({size}, F), got {shape}.")
    return features.shape[1]


def check_order(backbone: nn.Module, groups: Sequence[LayerGroup], inputs: Tensors) -> int:
    """Check that the layer groups run in their order; returns the features' width. Raises `TaskError`.

    A frozen leading group that runs behind an unfrozen one would be no prefix: nothing before it is constant.
    """
    first: dict[int, int] = {}
    calls: list[int] = []
    group_of = {id(parameter): index for index, group in enumerate(groups) for parameter in group.parameters}

    def watch(module: nn.Module, arguments: Any) -> None:
        for parameter in module.parameters(recurse=False):
            if (index := group_of.get(id(parameter))) is not None:  # None in a head inside the backbone
                first.setdefault(index, len(calls))
        calls.append(1)

    leaves = [m for m in backbone.modules() if next(m.children(), None) is None]
    hooks = [module.register_forward_pre_hook(watch) for module in leaves]
    try:
        width = feature_width(backbone, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    order = sorted(first, key=lambda index: (first[index], index))
    if order != sorted(order):
        ran = ", ".join(groups[index].name for index in order)
        listed = ", ".join(group.name for group in groups)
        raise TaskError(
            f"[model] backbone: its layer groups run in the order {ran}, but are listed as {listed}; "
            "give [model] groups = [...], glob patterns over parameter names, one a group, input side first."
        )
    return width
