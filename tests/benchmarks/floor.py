"""The floor: the operations that a strategy needs, at the rate at which this machine multiplies matrices."""

import time
from collections.abc import Callable
from typing import Any

import torch
from cases import Case
from torch.nn.functional import conv2d


def matrix_rate() -> float:
    """Floating-point operations a second, in float32 on one thread: the best of products and of 3x3 convolutions."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            return max(
                *(_of_product(side) for side in (512, 1024, 2048)), *(_of_convolution(c) for c in (64, 128, 256))
            )
    finally:
        torch.set_num_threads(threads)


def flops_of_strategy(case: Case, groups: list[int], params: dict[str, Any]) -> float:
    """Operations of a strategy's trial whose frozen prefix is cached; `groups`: an example's forward pass in each.

    A step passes forward through what is not frozen, and back twice through that: for the weights and for the inputs,
    but for the inputs of the first group that trains. A validation passes forward. The head is left out.
    """
    validation = case.size // 5
    total = 0.0
    for epoch in range(case.epochs):
        unfrozen = epoch >= params.get("unfreeze_epoch", 0)
        suffix = groups[params["freeze_depth"] :] if unfrozen else []
        step = 3 * sum(suffix) - (suffix[0] if suffix else 0)
        total += case.steps * 32 * step + validation * sum(suffix)
    return total


def flops_of_prefixes(case: Case, groups: list[int]) -> float:
    """Every example, once through the network: all that the list needs of frozen layers."""
    return float(case.size * sum(groups))


def _of_product(side: int) -> float:
    left, right = torch.randn(side, side), torch.randn(side, side)
    return 2 * side**3 / _fastest(lambda: left @ right)


def _of_convolution(channels: int) -> float:
    side = 1024 // channels
    images, kernels = torch.randn(32, channels, side, side), torch.randn(channels, channels, 3, 3)
    return 2 * 32 * side**2 * 9 * channels**2 / _fastest(lambda: conv2d(images, kernels, padding=1))


def _fastest(work: Callable[[], Any], *, times: int = 12) -> float:
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
