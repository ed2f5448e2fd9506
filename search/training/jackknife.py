"""Pseudo-values of a score that is no mean over examples: a block jackknife.

A block of examples is left out at a time. S is the score of all N examples, S_b without block b, of m_b examples. The
block's pseudo-value is S + (N / m_b - 1) (S - S_b), as in Busing et al. (1999). Of a mean it is the block's mean.
"""

from collections.abc import Callable
from math import nan, sqrt

import torch
from torch import Tensor

MAX_BLOCKS, MIN_BLOCKS = 200, 50
MAX_NUMBERS = 100_000_000
"""Outputs that all blocks together read, about 10 s of AUROC; more mean fewer blocks."""


def pseudo_values(score: Callable[[Tensor], float], groups: Tensor, *, width: int = 1) -> Tensor:
    """Return a value an example, (N,), whose mean is the score.

    The examples of a block share a value. Blocks are random unions of whole groups, the same for all strategies. A
    block's deviation from the score is stretched, so that formulas for means hold. Then the covariance of two
    strategies' mean values is that of the block jackknife. A block without which the score is not defined has the
    score itself.

    score: the score of the examples with these indices.
    groups: (N,) integers; examples that share one are sampled together.
    width: outputs an example.
    """
    sizes, blocks, block_of_group, group_of_example = _blocks(groups, width)
    count, whole = len(groups), score(torch.arange(len(groups)))
    block = block_of_group[group_of_example]
    in_block = torch.bincount(block, minlength=blocks).double()
    deviations = torch.zeros(blocks, dtype=torch.float64)
    for one in range(blocks):
        without = score(torch.nonzero(block != one).squeeze(1)) if blocks > 1 else nan
        if without == without:
            deviations[one] = (count / in_block[one] - 1) * (whole - without)
    # As errors of independent groups add up to less than those of a block that varies as one.
    squares = torch.zeros(blocks, dtype=torch.float64).index_add_(0, block_of_group, sizes.square())
    stretched = deviations * in_block / squares.sqrt()
    groups_left = (1 - 1 / len(sizes)) / (1 - 1 / blocks) if blocks > 1 else 0.0
    centred = stretched - (stretched * in_block).sum() / count
    return (whole + sqrt(groups_left) * centred)[block]


def standard_error(values: Tensor, groups: Tensor | None = None) -> float:
    """Return the standard error of the mean of values (N,) whose groups are sampled whole."""
    deviations = values.double() - values.double().mean()
    if groups is not None:
        _, group = torch.unique(groups, return_inverse=True)
        deviations = torch.zeros(int(group.max()) + 1, dtype=torch.float64).index_add_(0, group, deviations)
    number = len(deviations)
    return sqrt(deviations.square().sum().item() * number / (number - 1)) / len(values) if number > 1 else nan


def _blocks(groups: Tensor, width: int) -> tuple[Tensor, int, Tensor, Tensor]:
    """Return the groups' sizes, the number of blocks, each group's block, and each example's group."""
    _, group_of_example, sizes = torch.unique(groups, return_inverse=True, return_counts=True)
    affordable = max(MIN_BLOCKS, MAX_NUMBERS // (len(groups) * width))
    blocks = min(MAX_BLOCKS, affordable, len(sizes))
    order = torch.randperm(len(sizes), generator=torch.Generator().manual_seed(0))
    return sizes.double(), blocks, order % blocks, group_of_example
