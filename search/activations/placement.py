"""The choice of boundaries worth keeping: their bytes against the time to compute them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

FLOPS_PER_SECOND = 1e11
"""FLOP/s of one CPU thread in a forward pass, counting a multiply-add as two.

Measured in fp32 on an AMD EPYC (Zen 5, AVX-512): ResNets 110 to 150e9, a ViT 60e9, depthwise networks 47 to 63e9.
"""
MEMORY_BYTES_PER_SECOND = 5e9
"""Bytes/s of rows gathered at random from memory.

Measured there: 5.2e9 for rows of 32 KB, 6.8e9 for rows of 400 KB.
"""
DISK_BYTES_PER_SECOND = 0.34e9
"""Bytes/s of rows gathered at random from a map of a cold file.

The worst case, for files that exceed the memory.
"""
MIN_SHARE_SPARED = 0.05
"""Least share of a forward pass that a boundary worth its bytes spares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundaryCost:
    """One example's activations after `index` layer groups: their bytes, and FLOPs from the input."""

    index: int
    nbytes: int
    flops: float


def choose_boundaries(
    boundaries: Sequence[BoundaryCost], *, examples: int, room: int, in_memory: int
) -> tuple[int, ...]:
    """Return the indices of the boundaries to keep, ascending.

    The last boundary is the features, on which heads train while their backbone is frozen: kept where they fit. A run
    whose first p groups are frozen reads the last boundary kept up to p and computes the rest.

    All freeze depths weigh the same. For each possible first boundary, boundaries are added greedily by seconds spared
    per byte; the best of these plans wins. Rates are nominal, so that the same study always keeps the same ones.

    examples: rows that are read, views counted in.
    room: bytes for all together, of which `in_memory` are read at the memory's rate.
    """
    *inner, features = sorted(boundaries, key=lambda one: one.index)
    plan = _Plan(features, inner, examples, room, in_memory)
    kept = (features,) if plan.fits((features,)) else ()
    grown = [plan.grown(plan.pruned((*kept, one))) for one in inner if plan.fits((*kept, one))]
    return tuple(one.index for one in max([plan.grown(kept), *grown], key=plan.spared))


@dataclass(frozen=True, slots=True)
class _Plan:
    features: BoundaryCost
    inner: list[BoundaryCost]
    examples: int
    room: int
    in_memory: int

    def fits(self, kept: Sequence[BoundaryCost]) -> bool:
        return sum(one.nbytes for one in kept) * self.examples <= self.room

    def grown(self, kept: tuple[BoundaryCost, ...]) -> tuple[BoundaryCost, ...]:
        """Add boundaries as long as one spares time, that which spares most per byte first."""
        options = [(one, self.pruned((*kept, one))) for one in self.inner if one not in kept]
        gains = [
            ((self.spared(option) - self.spared(kept)) / one.nbytes, option)
            for one, option in options
            if self.fits(option)
        ]
        gain, option = max(gains, default=(0.0, kept), key=lambda gain: gain[0])
        return self.grown(option) if gain > 0 else kept

    def seconds(self, kept: Sequence[BoundaryCost]) -> list[float]:
        """Return the seconds that reading each spares an example; the last are in memory first."""
        left, seconds = self.in_memory, []
        for one in reversed(kept):
            fits = one.nbytes * self.examples <= left
            left -= one.nbytes * self.examples * fits
            seconds.append(
                one.flops / FLOPS_PER_SECOND - one.nbytes / (MEMORY_BYTES_PER_SECOND if fits else DISK_BYTES_PER_SECOND)
            )
        return seconds[::-1]

    def pruned(self, kept: Sequence[BoundaryCost]) -> tuple[BoundaryCost, ...]:
        """Drop those that spare too little over the one before; the features stay."""
        kept = sorted(kept, key=lambda one: one.index)
        least = MIN_SHARE_SPARED * self.features.flops / FLOPS_PER_SECOND
        for one, (before, spared) in zip(kept, pairwise([0.0, *self.seconds(kept)]), strict=True):
            if spared < before + least and one is not self.features:
                return self.pruned([other for other in kept if other is not one])
        return tuple(kept)

    def spared(self, kept: Sequence[BoundaryCost]) -> float:
        """Return the seconds spared an example, summed over a run's possible freeze depths."""
        ends = [*(one.index for one in kept), self.features.index + 1][1:]
        return sum(
            (end - one.index) * seconds for one, end, seconds in zip(kept, ends, self.seconds(kept), strict=True)
        )
