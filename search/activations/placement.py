"""Which boundaries of a backbone are worth keeping: bytes against the time to compute them again."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

FLOP_RATE = 1e11
"""FLOP/s of one CPU thread in a forward pass, counting a multiply-add as two.

Measured in fp32 on an AMD EPYC (Zen 5, AVX-512): ResNets 110 to 150e9, a ViT 60e9, depthwise networks 47 to 63e9.
"""
MEMORY_RATE = 5e9
"""Bytes/s of rows gathered at random from memory: 5.2 and 6.8e9 there for rows of 32 and 400 KB."""
DISK_RATE = 0.34e9
"""Bytes/s of rows gathered at random from a map of a cold file: the worst case, for files that exceed the memory."""
LEAST = 0.05
"""A boundary that spares less than this share of the whole forward pass is not worth its bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """One example's activations after the first `index` layer groups: their bytes, and the FLOPs from the input on."""

    index: int
    nbytes: int
    flops: float


def choose_boundaries(boundaries: Sequence[Boundary], *, examples: int, room: int, in_memory: int) -> tuple[int, ...]:
    """The indices of the boundaries to keep for a working set of so many rows, views counted in; ascending.

    The last boundary is the features, on which every head trains that waits for its backbone: kept where they fit.
    `room` is for all bytes together, of which `in_memory` are read at the memory's rate. A run whose first p groups are
    frozen reads the last boundary kept up to p and computes the rest; each p counts the same. Greedy by time spared per
    byte, after each first choice; from nominal rates, so that the same study always keeps the same ones.
    """
    *inner, features = sorted(boundaries, key=lambda one: one.index)
    plan = _Plan(features, inner, examples, room, in_memory)
    kept = (features,) if plan.fits((features,)) else ()
    grown = [plan.grown(plan.pruned((*kept, one))) for one in inner if plan.fits((*kept, one))]
    return tuple(one.index for one in max([plan.grown(kept), *grown], key=plan.spared))


@dataclass(frozen=True, slots=True)
class _Plan:
    features: Boundary
    inner: list[Boundary]
    examples: int
    room: int
    in_memory: int

    def fits(self, kept: Sequence[Boundary]) -> bool:
        return sum(one.nbytes for one in kept) * self.examples <= self.room

    def grown(self, kept: tuple[Boundary, ...]) -> tuple[Boundary, ...]:
        """More of them, as long as one more spares time; that which spares most per byte first."""
        options = [(one, self.pruned((*kept, one))) for one in self.inner if one not in kept]
        gains = [
            ((self.spared(option) - self.spared(kept)) / one.nbytes, option)
            for one, option in options
            if self.fits(option)
        ]
        gain, option = max(gains, default=(0.0, kept), key=lambda gain: gain[0])
        return self.grown(option) if gain > 0 else kept

    def seconds(self, kept: Sequence[Boundary]) -> list[float]:
        """What reading each spares an example, against computing up to it; the memory goes to the last ones first."""
        left, seconds = self.in_memory, []
        for one in reversed(kept):
            fits = one.nbytes * self.examples <= left
            left -= one.nbytes * self.examples * fits
            seconds.append(one.flops / FLOP_RATE - one.nbytes / (MEMORY_RATE if fits else DISK_RATE))
        return seconds[::-1]

    def pruned(self, kept: Sequence[Boundary]) -> tuple[Boundary, ...]:
        """Those of them, ascending, that spare enough over the one before; the features stay whatever they spare."""
        kept = sorted(kept, key=lambda one: one.index)
        least = LEAST * self.features.flops / FLOP_RATE
        for one, (before, spared) in zip(kept, pairwise([0.0, *self.seconds(kept)]), strict=True):
            if spared < before + least and one is not self.features:
                return self.pruned([other for other in kept if other is not one])
        return tuple(kept)

    def spared(self, kept: Sequence[Boundary]) -> float:
        """Seconds spared an example, summed over the depths at which a run may be frozen."""
        ends = [*(one.index for one in kept), self.features.index + 1][1:]
        return sum(
            (end - one.index) * seconds for one, end, seconds in zip(kept, ends, self.seconds(kept), strict=True)
        )
