"""Answers at sizes that were not run, from those that were."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import exp, hypot, log, sqrt

import numpy as np

from search.errors import StudyError
from search.verdict.judge import NORMAL_90, Candidate, Verdict
from search.verdict.results import Results
from strategies import FreezingStrategy

MAX_TIMES_SMALLER, MAX_TIMES_LARGER = 2, 3
"""Range of answers, as ratios to the smallest and to the largest confirmed size."""
MAX_EXTRAPOLATION = 2
"""Range of a slope beyond its two sizes, in multiples of their distance."""
MAX_LOG = 700.0
"""The largest logarithm whose number is finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The strategy to take at a size that was not run, and its expected score.

    sizes: the two confirmed sizes that the score is interpolated from, around `size` or the nearest two.
    source: the confirmed size whose recommended `candidate` is taken.
    score, low, high: the predicted mean test score with its 90 % interval, in the metric's own unit.
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
        """The least and the greatest value of each parameter among the near-optimal strategies."""
        named = {name for strategy in self.near_optimal for name in strategy.to_params(defaults=False)}
        names = [field.name for field in fields(FreezingStrategy) if field.name in named]
        values = {name: [getattr(strategy, name) for strategy in self.near_optimal] for name in names}
        # `pretrained` is the family's; words have no order.
        return {name: (min(v), max(v)) for name, v in values.items() if not isinstance(v[0], (bool, str))}


@dataclass(frozen=True, slots=True, kw_only=True)
class FrostLine:
    """The best freeze depth against the size, one entry a confirmed size, in ascending order.

    lowest, highest: the least and the greatest depth among near-optimal strategies.
    """

    num_groups: int
    sizes: tuple[int, ...]
    recommended: tuple[int, ...]
    lowest: tuple[int, ...]
    highest: tuple[int, ...]

    @property
    def covered(self) -> tuple[bool, ...]:
        """True at sizes where every depth is near-optimal."""
        ends = zip(self.lowest, self.highest, strict=True)
        return tuple(low == 0 and high == self.num_groups for low, high in ends)

    @property
    def pieces(self) -> list[list[int]]:
        """The places of sizes that a line may join.

        It leaves out covered sizes. It does not join neighbours whose depths differ while each is near-optimal at
        the other.
        """
        pieces: list[list[int]] = []
        for place, covered in enumerate(self.covered):
            if covered:
                continue
            if pieces and pieces[-1][-1] == place - 1 and self._apart(place - 1, place):
                pieces[-1].append(place)
            else:
                pieces.append([place])
        return pieces

    def _apart(self, one: int, other: int) -> bool:
        """Check that two depths are the same, or that the noise can't make them so."""
        depths = self.recommended
        return depths[one] == depths[other] or not all(
            self.lowest[here] <= depths[there] <= self.highest[here] for here, there in ((one, other), (other, one))
        )


def estimate(results: Results, verdicts: Mapping[int, Verdict], *, size: int) -> Estimate:
    """Estimate the answer at a size not run: the nearest confirmed size's recommended strategy.

    Nearest is by ratio, and of two equally near the larger. The score is on the power law through the recommended
    strategies of the two sizes around. In replays of the tables with sizes left out, neither the nearest
    leader nor a mixture of several sizes' strategies did clearly better.

    Raises `StudyError` below two confirmed sizes, too far beyond them, and for a loss below 0.
    """
    sizes = sorted(verdicts)
    if len(sizes) < 2:
        raise StudyError(
            f"Study {results.location.name!r} was not run at size {size}; an estimate takes two confirmed sizes; "
            f"confirmed: {', '.join(map(str, sizes)) or 'none'}."
        )
    least, most = -(-sizes[0] // MAX_TIMES_SMALLER), sizes[-1] * MAX_TIMES_LARGER
    if not least <= size <= most:
        raise StudyError(
            f"Study {results.location.name!r} was not run at size {size}; from its confirmed sizes, "
            f"{', '.join(map(str, sizes))}, it can estimate sizes from {least} to {most}."
        )
    if any(verdict.metric.error(c.score) < 0 for verdict in verdicts.values() for c in verdict.candidates):
        raise StudyError(
            f"Study {results.location.name!r} was not run at size {size}; its loss is below 0, which no power law "
            f"continues; confirmed: {', '.join(map(str, sizes))}."
        )
    source = min(sizes, key=lambda known: (max(known / size, size / known), -known))
    upper = next((place for place in range(1, len(sizes)) if sizes[place] > size), len(sizes) - 1)
    pair = sizes[upper - 1], sizes[upper]
    chosen = verdicts[source].recommended
    score, low, high = _predicted(verdicts, pair, size)
    close = [strategy for known in pair for strategy in verdicts[known].near_optimal]
    return Estimate(
        size=size, sizes=pair, source=source, candidate=chosen, score=score, low=low, high=high,
        near_optimal=tuple(dict.fromkeys(s for s in close if s.family(results.num_groups) == chosen.family)),
    )  # fmt: skip


def _predicted(verdicts: Mapping[int, Verdict], pair: tuple[int, int], size: int) -> tuple[float, float, float]:
    """Predict the recommended strategy's score and its 90 % interval from two sizes.

    By a power law: the logarithm of the error is straight on that of the size (Hestness et al., 2017,
    arxiv.org/abs/1712.00409). It goes from recommended to recommended, which were chosen alike: a family's own slope
    is bent by the size at which it was chosen.
    """
    metric = verdicts[pair[0]].metric
    curves = _log_errors(verdicts)
    (one, one_half), (other, other_half) = (curves[known][verdicts[known].recommended.family] for known in pair)
    start, stop = log(pair[0]), log(pair[1])
    weight = min(max((log(size) - start) / (stop - start), -MAX_EXTRAPOLATION), 1 + MAX_EXTRAPOLATION)
    span = abs(weight * (1 - weight)) * (stop - start) ** 2
    bend = _bend(curves)
    if bend is None:  # two sizes alone show that the curve, halfway, is not beyond its ends
        bend = 2 * abs(other - one) / (stop - start) ** 2
    middle = (1 - weight) * one + weight * other
    if not 0 <= weight <= 1 and other > one:  # more labels that do harm are noise, which is not carried on
        middle = one if weight < 0 else other
    half = hypot((1 - weight) * one_half, weight * other_half, bend * span)
    errors = (min(exp(min(at, MAX_LOG)), metric.largest_error) for at in (middle, middle + half, middle - half))
    score, worse, better = map(metric.error, errors)
    return score, min(worse, better), max(worse, better)


def _log_errors(verdicts: Mapping[int, Verdict]) -> dict[int, dict[str, tuple[float, float]]]:
    """Return log errors and half their 90 % intervals, by size and family."""
    metric = next(iter(verdicts.values())).metric
    # An error of 0 has no logarithm: a thousandth of the worst is as good.
    floor = max(metric.error(c.score) for verdict in verdicts.values() for c in verdict.candidates) / 1000 or 1e-12

    def place(score: float) -> float:
        return log(max(metric.error(score), floor))

    return {
        size: {c.family: (place(c.score), abs(place(c.high) - place(c.low)) / 2) for c in verdicts[size].candidates}
        for size in sorted(verdicts)
    }


def _bend(curves: Mapping[int, Mapping[str, tuple[float, float]]]) -> float | None:
    """Return how far errors leave the straight line; None below three sizes.

    It is half a 90 % interval, per unit of span. A curve of constant bend leaves the line through a and b by
    bend (x - a) (b - x). Each inner size is left out in turn. The noise of the scores is taken from the mean square,
    or it would count twice.
    """
    sizes = list(curves)
    squares = []
    for a, x, b in zip(sizes, sizes[1:], sizes[2:], strict=False):
        for family in (family for family in curves[a] if family in curves[x] and family in curves[b]):
            (at_a, half_a), (at_x, half_x), (at_b, half_b) = (curves[size][family] for size in (a, x, b))
            weight = log(x / a) / log(b / a)
            off = at_x - (1 - weight) * at_a - weight * at_b
            noise = hypot(half_x, (1 - weight) * half_a, weight * half_b) / NORMAL_90
            squares.append((off**2 - noise**2) / (log(x / a) * log(b / x)) ** 2)
    return NORMAL_90 * sqrt(max(float(np.mean(squares)), 0.0)) if squares else None


def frost_line(verdicts: Mapping[int, Verdict], *, num_groups: int) -> FrostLine:
    """Return the recommended and the near-optimal freeze depths."""
    sizes = sorted(verdicts)
    depths = {size: [s.freeze_depth for s in verdicts[size].near_optimal] for size in sizes}
    return FrostLine(
        num_groups=num_groups, sizes=tuple(sizes),
        recommended=tuple(verdicts[size].recommended.strategy.freeze_depth for size in sizes),
        lowest=tuple(min(depths[size]) for size in sizes), highest=tuple(max(depths[size]) for size in sizes),
    )  # fmt: skip
