"""What holds at sizes that were not run, from those that were: on the logarithm of the size. numpy only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import log

import numpy as np

from search.rows import Results
from search.verdict import Contestant, Verdict
from strategies import FreezingStrategy

INDISTINCT = 1.645
"""A trial this many standard deviations of the noise behind the best one may well be as good (90 %)."""
SMOOTH = log(2)
"""The width of the frost line's fit: sizes a factor of two away weigh exp(-1/2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrostLine:
    """The best freeze depth against the size, one entry a confirmed size, in ascending order.

    lowest, highest: the least and the greatest depth among near-optimal strategies.
    line: (size, depth) on a fine grid that is even on the logarithm of the size; empty below two sizes.
    """

    num_groups: int
    sizes: tuple[int, ...]
    recommended: tuple[int, ...]
    lowest: tuple[int, ...]
    highest: tuple[int, ...]
    line: tuple[tuple[float, float], ...]


def frost_line(results: Results, verdicts: Mapping[int, Verdict]) -> FrostLine:
    """How deep to freeze at each size: what is recommended, what the noise can't tell from it, and a smooth fit.

    The fit is local linear (Cleveland, 1979) over the depths of all near-optimal strategies, each size counting as
    much as any other. It need not fall with the size.
    """
    sizes = sorted(verdicts)
    depths = {size: [s.freeze_depth for s in near_optimal(results, verdicts[size])] for size in sizes}
    return FrostLine(
        num_groups=results.num_groups,
        sizes=tuple(sizes),
        recommended=tuple(verdicts[size].recommended.strategy.freeze_depth for size in sizes),
        lowest=tuple(min(depths[size]) for size in sizes),
        highest=tuple(max(depths[size]) for size in sizes),
        line=_line(sizes, [float(np.mean(depths[size])) for size in sizes], results.num_groups),
    )


def near_optimal(results: Results, verdict: Verdict) -> list[FreezingStrategy]:
    """The contenders, and those complete trials of the search that the noise can't tell from its best one."""
    found = [contender.strategy for contender in verdict.contenders]
    noise = _noise(results, verdict.size, verdict.contenders or verdict.contestants)
    complete = [
        (row, row.value) for row in results.explored(verdict.size) if row.state == "COMPLETE" and row.value is not None
    ]
    sign = 1.0 if results.spec.task.direction == "maximize" else -1.0
    best = max((sign * value for _, value in complete), default=0.0)
    close = [row.strategy for row, value in complete if best - sign * value <= INDISTINCT * noise]
    return list(dict.fromkeys([*found, *close]))


def _noise(results: Results, size: int, contestants: Sequence[Contestant]) -> float:
    """The standard deviation over chains of the difference of two contestants' values: the median over pairs.

    All trials of the search share a chain, so what the chain does to all of them alike is no noise.
    """
    values = {
        contestant.family: {
            row.chain: row.value
            for row in results.confirmed(size)
            if row.family == contestant.family and row.state == "COMPLETE" and row.value is not None
        }
        for contestant in contestants
    }
    spreads = []
    for one, other in combinations(values.values(), 2):
        shared = one.keys() & other.keys()
        if len(shared) > 1:
            spreads.append(float(np.std([one[chain] - other[chain] for chain in shared], ddof=1)))
    return float(np.median(spreads)) if spreads else 0.0


def _line(sizes: Sequence[int], depths: Sequence[float], num_groups: int) -> tuple[tuple[float, float], ...]:
    if len(sizes) < 2:
        return ()
    places = np.log(sizes)
    grid = np.linspace(places[0], places[-1], 101)
    line = []
    for place in grid:
        away = places - place
        weight = np.exp(-((away / SMOOTH) ** 2) / 4)  # on the square root of the weights, as polyfit wants them
        line.append(float(np.polyfit(away, depths, 1, w=weight)[1]))
    fitted = np.clip(line, 0, num_groups)
    return tuple((float(np.exp(place)), float(depth)) for place, depth in zip(grid, fitted, strict=True))
