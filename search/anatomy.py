"""A backbone's layer groups in figures: what each holds, what it costs, and what each freeze depth would train."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.table import Table
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from search.spec import StudySpec
from search.tasks.models import Tensors
from search.tasks.task import Task
from strategies import FreezingStrategy, LayerGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One layer group, or the head (the last one): its parameters, its share of the forward FLOPs, and how many
    parameters train at the freeze depth that equals its index."""

    name: str
    parameters: int
    share: float
    trained: int


def anatomy(spec: StudySpec) -> list[Part]:
    """The layer groups of a study's backbone, input side first, then the head. Raises `FrostlineError`."""
    task = Task.look_at(spec)
    groups = task.groups
    flops = forward_flops(task.parts.backbone, groups, task.example)
    trained = [task.trainable_parameters(FreezingStrategy(freeze_depth=depth)) for depth in range(len(groups) + 1)]
    # A linear head is a share too small to be told; it is what is left of the whole.
    first = next(iter(task.example.values())) if isinstance(task.example, dict) else task.example
    total = sum(flops) + 2 * trained[-1] * len(first)
    sizes = [sum(parameter.numel() for parameter in group.parameters) for group in groups]
    return [
        Part(name=name, parameters=size, share=cost / total, trained=left)
        for name, size, cost, left in zip(
            [*(group.name for group in groups), "head"],
            [*sizes, trained[-1]],
            [*flops, total - sum(flops)],
            trained,
            strict=True,
        )
    ]


def forward_flops(backbone: nn.Module, groups: Sequence[LayerGroup], inputs: Tensors) -> list[int]:
    """Floating-point operations of one forward pass in each layer group, counted by `FlopCounterMode`.

    What a container does itself (attention between its layers) counts for the group it belongs to; an `nn.LSTM`'s
    layers share its count by their weights, each of which is used once a time step.
    """
    counter = FlopCounterMode(display=False)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # fused operations have no formula
    trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    backbone.requires_grad_(False)  # the counter trips over a module that takes a parameter as its input (PiT's token)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of TF32 on another maker's GPUs, whenever a flag of oneDNN is set
            with torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH), counter:
                backbone.eval()(inputs)
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        torch.backends.mha.set_fastpath_enabled(fast)
    root = type(backbone).__name__
    counts = {name: sum(by_operation.values()) for name, by_operation in counter.get_flop_counts().items()}
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


def table(parts: Sequence[Part]) -> Table:
    """The layer groups as a table for a terminal."""
    result = Table(box=None, padding=(0, 2, 0, 0))
    for heading, justify in (
        ("depth", "right"), ("layer group", "left"), ("parameters", "right"), ("FLOPs", "right"), ("trains", "right"),
        ("", "left")
    ):  # fmt: skip
        result.add_column(heading, justify=justify, no_wrap=heading != "")  # type: ignore[arg-type]
    whole = parts[0].trained
    for index, part in enumerate(parts):
        count = f"{part.trained:,} ({100 * part.trained / whole:.3g} %)"
        meaning = "everything" if index == 0 else "the head" if part is parts[-1] else "from here on"
        result.add_row(str(index), part.name, f"{part.parameters:,}", f"{100 * part.share:.1f} %", count, meaning)
    return result
