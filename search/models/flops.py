"""Floating-point operations of a forward pass, by layer group."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from search.data.examples import Tensors
from search.models.network import Parts
from strategies import LayerGroup


def forward_flops(backbone: nn.Module, groups: Sequence[LayerGroup], inputs: Tensors) -> list[int]:
    """Count the operations of one forward pass in each layer group, by `FlopCounterMode`.

    A container's own operations (attention between its layers) count for its group. The layers of an `nn.LSTM`
    share its count by their weights, each of which is used once a time step.
    """
    counts, _ = _counted(backbone, inputs)
    root = type(backbone).__name__
    result = [0.0] * len(groups)
    for path, module in backbone.named_modules():
        prefix = f"{root}.{path}" if path else root
        own = counts.get(prefix, 0) - sum(counts.get(f"{prefix}.{child}", 0) for child, _ in module.named_children())
        if own <= 0:
            continue
        direct = {id(parameter) for parameter in module.parameters(recurse=False)}
        weights = [sum(p.numel() for p in g.parameters if id(p) in direct and p.ndim > 1) for g in groups]
        if not any(weights):
            weights = [int(any(m is module for m in group.modules)) for group in groups]
        for index, weight in enumerate(weights):
            result[index] += own * weight / max(sum(weights), 1)
    return [round(count) for count in result]


def head_flops(parts: Parts, inputs: Tensors) -> int:
    """Count the operations of one forward pass in the head that comes with a network."""
    heads = [part for part in (parts.neck, parts.head) if part is not None]
    total: float = 0.0
    value: Any = _counted(parts.backbone, inputs)[1] if heads else None
    for head in heads:
        counts, value = _counted(head, value)
        total += counts.get("Global", 0)
    return round(total)


def _counted(network: nn.Module, inputs: Tensors) -> tuple[dict[str, float], Any]:
    """Return a forward pass's operations by the module's path, and its output."""
    counter = FlopCounterMode(display=False)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # fused operations have no formula
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.requires_grad_(False)  # the counter trips over a module that takes a parameter as its input (PiT's token)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of TF32 on another maker's GPUs, whenever a flag of oneDNN is set
            with torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH), counter:
                output = network.eval()(inputs)
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        torch.backends.mha.set_fastpath_enabled(fast)
    return {name: sum(by_operation.values()) for name, by_operation in counter.get_flop_counts().items()}, output
