"""What holds at a size that was not run, from those that were: on the logarithm of the size. numpy only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from math import exp, hypot, log, sqrt

import numpy as np

from search.errors import StudyError
from search.verdict.judge import Candidate, Verdict
from search.verdict.rows import Results
from strategies import FreezingStrategy

BELOW, ABOVE = 2, 3
"""How many times smaller than the smallest size, and larger than the largest, is answered for."""
CARRIED = 2
"""A slope is carried beyond the two sizes that it was seen between by so many times their distance at most."""
LARGEST = 700.0
"""A logarithm whose number is still finite."""
NORMAL_90 = 1.645
"""Half of a 90 % interval, in standard deviations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What to take at a size that was not run, and what to expect of it.

    sizes: the two confirmed ones that it is told from, those around it or the two nearest.
    source: the one of them whose recommended `candidate` is taken.
    score, low, high: the predicted mean test score with its 90 % interval, in the measure's own unit.
    near_optimal: the strategies of the candidate's family that are near-optimal at one of the `sizes`.
    """

    size: int
    sizes: tuple[int, int]
    source: int
    candidate: Candidate
    score: float
    low: float
    high: float
    near_optimal: tuple[FreezingStrategy, ...]

    @property
    def bands(self) -> dict[str, tuple[float, float]]:
        """The least and the greatest value of each parameter among the near-optimal."""
        named = {name for strategy in self.near_optimal for name in strategy.to_params()}
        names = [field.name for field in fields(FreezingStrategy) if field.name in named]
        values = {name: [getattr(strategy, name) for strategy in self.near_optimal] for name in names}
        # Whether pretrained is its family's; words have no order.
        return {name: (min(v), max(v)) for name, v in values.items() if not isinstance(v[0], (bool, str))}


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


def between(results: Results, verdicts: Mapping[int, Verdict], size: int) -> Estimate:
    """What is recommended at the nearest size, by ratio and the larger of two equally near, as it is.

    Replayed with sizes left out (`python -m tests.replay between`), neither its leader, which costs no less, nor
    a mixture of several sizes' strategies did clearly better. The score is on the power law through what is recommended
    at the two sizes around. Raises `StudyError` below two confirmed sizes, and further beyond them than `BELOW` and
    `ABOVE` times.
    """
    sizes = sorted(verdicts)
    if len(sizes) < 2:
        raise StudyError(
            f"Study {results.location.name!r} was not run at size {size}, and to tell from others takes two that are "
            f"confirmed; confirmed: {', '.join(map(str, sizes)) or 'none'}."
        )
    least, most = -(-sizes[0] // BELOW), sizes[-1] * ABOVE
    if not least <= size <= most:
        raise StudyError(
            f"Study {results.location.name!r} was not run at size {size}, and its confirmed sizes, "
            f"{', '.join(map(str, sizes))}, tell of sizes from {least} to {most}."
        )
    source = min(sizes, key=lambda known: (max(known / size, size / known), -known))
    upper = next((place for place in range(1, len(sizes)) if sizes[place] > size), len(sizes) - 1)
    pair = sizes[upper - 1], sizes[upper]
    chosen = verdicts[source].recommended
    score, low, high = _predicted(verdicts, pair, size)
    close = [strategy for known in pair for strategy in near_optimal(results, verdicts[known])]
    return Estimate(
        size=size,
        sizes=pair,
        source=source,
        candidate=chosen,
        score=score,
        low=low,
        high=high,
        near_optimal=tuple(dict.fromkeys(s for s in close if s.family(results.num_groups) == chosen.family)),
    )


def _predicted(verdicts: Mapping[int, Verdict], pair: tuple[int, int], size: int) -> tuple[float, float, float]:
    # A power law: the logarithm of the error is straight on that of the size (Hestness et al., 2017). From
    # recommended to recommended, chosen alike; a family's own slope is bent by the size at which it was chosen.
    measure = verdicts[pair[0]].measure
    curves = _log_errors(verdicts)
    (one, one_half), (other, other_half) = (curves[known][verdicts[known].recommended.family] for known in pair)
    start, stop = log(pair[0]), log(pair[1])
    weight = min(max((log(size) - start) / (stop - start), -CARRIED), 1 + CARRIED)
    span = abs(weight * (1 - weight)) * (stop - start) ** 2
    bend = _bend(curves)
    if bend is None:  # of a curve that was seen at two sizes alone it is known that, halfway, it is not beyond its ends
        bend = 2 * abs(other - one) / (stop - start) ** 2
    middle = (1 - weight) * one + weight * other
    if not 0 <= weight <= 1 and other > one:  # that more labels do harm is noise, which is not carried on
        middle = one if weight < 0 else other
    half = hypot((1 - weight) * one_half, weight * other_half, bend * span)
    errors = (min(exp(min(at, LARGEST)), measure.highest) for at in (middle, middle + half, middle - half))
    score, worse, better = (measure.highest - error if measure.higher_is_better else error for error in errors)
    return score, min(worse, better), max(worse, better)


def _log_errors(verdicts: Mapping[int, Verdict]) -> dict[int, dict[str, tuple[float, float]]]:
    """By size and family: the logarithm of the error, and half its 90 % interval."""
    measure = next(iter(verdicts.values())).measure

    def error(score: float) -> float:
        return measure.highest - score if measure.higher_is_better else score

    # None at all has no logarithm: a thousandth of the worst is as good.
    floor = max(error(c.score) for verdict in verdicts.values() for c in verdict.candidates) / 1000 or 1e-12

    def place(score: float) -> float:
        return log(max(error(score), floor))

    return {
        size: {c.family: (place(c.score), abs(place(c.high) - place(c.low)) / 2) for c in verdicts[size].candidates}
        for size in sorted(verdicts)
    }


def _bend(curves: Mapping[int, Mapping[str, tuple[float, float]]]) -> float | None:
    """How far errors leave the straight line, by each size left out: half a 90 % interval, per unit of span.

    Off a line through a and b a curve of constant bend is by bend (x - a) (b - x), on the logarithm of the size. What
    scores are off by noise is taken from the mean square, else it would count twice. None below three sizes.
    """
    sizes = list(curves)
    squares = []
    for a, x, b in zip(sizes, sizes[1:], sizes[2:], strict=False):
        for family in curves[a].keys() & curves[x].keys() & curves[b].keys():
            (at_a, half_a), (at_x, half_x), (at_b, half_b) = (curves[size][family] for size in (a, x, b))
            weight = log(x / a) / log(b / a)
            off = at_x - (1 - weight) * at_a - weight * at_b
            noise = hypot(half_x, (1 - weight) * half_a, weight * half_b) / NORMAL_90
            squares.append((off**2 - noise**2) / (log(x / a) * log(b / x)) ** 2)
    return NORMAL_90 * sqrt(max(float(np.mean(squares)), 0.0)) if squares else None


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
    rivals = verdict.contenders if len(verdict.contenders) > 1 else verdict.candidates[:2]
    noise = _noise(results, verdict.size, rivals)
    complete = [
        (row, row.value) for row in results.explored(verdict.size) if row.state == "COMPLETE" and row.value is not None
    ]
    sign = 1.0 if results.spec.task.direction == "maximize" else -1.0
    best = max((sign * value for _, value in complete), default=0.0)
    close = [row.strategy for row, value in complete if best - sign * value <= NORMAL_90 * noise]
    return list(dict.fromkeys([*found, *close]))


def _noise(results: Results, size: int, candidates: Sequence[Candidate]) -> float:
    """The standard deviation over repeats of the difference of two candidates' values: the median over pairs.

    All trials of the search share a repeat, so what the repeat does to all of them alike is no noise.
    """
    values = {
        candidate.family: {
            row.repeat: row.value
            for row in results.confirmed(size)
            if row.source_trial == candidate.source_trial and row.state == "COMPLETE" and row.value is not None
        }
        for candidate in candidates
    }
    spreads = []
    for one, other in combinations(values.values(), 2):
        shared = one.keys() & other.keys()
        if len(shared) > 1:
            spreads.append(float(np.std([one[repeat] - other[repeat] for repeat in shared], ddof=1)))
    return float(np.median(spreads)) if spreads else 0.0


def _line(sizes: Sequence[int], depths: Sequence[float], num_groups: int) -> tuple[tuple[float, float], ...]:
    if len(sizes) < 2:
        return ()
    places = np.log(sizes)
    width = (places[-1] - places[0]) / (len(sizes) - 1)  # of a normal kernel: the mean step from size to size
    line = []
    for place in np.linspace(places[0], places[-1], 101):
        away = places - place
        weight = np.exp(-((away / width) ** 2) / 4)  # the root of the kernel: polyfit squares it
        depth = float(np.polyfit(away, depths, 1, w=weight)[1])
        line.append((float(np.exp(place)), min(max(depth, 0.0), float(num_groups))))
    return tuple(line)
