"""The confirm race: which exploring trials are re-run, and on which repeats.

As in irace (Lopez-Ibanez et al., 2016, doi:10.1016/j.orp.2016.09.002), a candidate that can no longer win gets no
more repeats. Unlike there, its score so far is still judged.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from search.spec.study_spec import StudySpec
from search.verdict.metric import Metric
from search.verdict.rows import Row

LEAST_REPEATS = 5
"""Fewer rule nothing out: of identical strategies, 3 name a winner one time in ten."""
HEAD_TO_HEAD_REPEATS = 2
"""Repeats on which a family's best trial meets its best baseline, in validation alone."""
CLOSED_BELOW = 0.0005
"""P(better than the leader) below which a candidate beyond the margin is closed.

It is looked at after every round, and a winner needs the P of all others together to be small.
"""
ALIKE_BELOW = 0.05
"""P(behind by more than the margin) below which it is as good as the leader."""

Place = tuple[int, int]
"""A confirm trial: the number of the exploring trial that it re-runs, and the repeat."""


def best_of_each_family(rows: Iterable[Row], *, maximize: bool) -> list[Row]:
    """Return the best complete trial of each family, in order of the families' first appearance."""
    sign = 1 if maximize else -1
    best: dict[str, tuple[float, Row]] = {}
    for row in rows:
        value = row.final_value
        if value is not None and (row.family not in best or sign * value > best[row.family][0]):
            best[row.family] = sign * value, row
    return [row for _, row in best.values()]


def nominees(rows: Sequence[Row], *, maximize: bool) -> list[tuple[Row, ...]]:
    """Return each family's best trial and, if that is another strategy, its best baseline.

    The best of many noisy values is too good (the winner's curse), and the more so the more trials there are.
    Replayed studies (`python -m tests.replay picks`) gain next to nothing from more exploring without this re-run.
    """
    baselines = {row.family: row for row in best_of_each_family([r for r in rows if r.baseline], maximize=maximize)}
    found = [(row, baselines.get(row.family, row)) for row in best_of_each_family(rows, maximize=maximize)]
    return [(best,) if best.strategy == baseline.strategy else (best, baseline) for best, baseline in found]


def ended(confirmed: Iterable[Row]) -> dict[Place, Row]:
    """Return the confirm trials that have ended, by their places."""
    return {(r.source_trial, r.repeat): r for r in confirmed if r.source_trial is not None and r.is_finished}


def candidates(families: Iterable[Sequence[Row]], confirmed: Iterable[Row], *, spec: StudySpec) -> list[Row]:
    """Return each family's candidate: the head-to-head winner, or its best trial until then."""
    sign = -1 if spec.task.direction == "maximize" else 1
    values = {
        place: inf if row.final_value is None else sign * row.final_value for place, row in ended(confirmed).items()
    }
    found = []
    for family in families:
        through = head_to_head_winner(values, [row.number for row in family], repeats=spec.confirm.repeats)
        found.append(next((row for row in family if row.number == through), family[0]))
    return found


def needed_confirm_trials(
    families: Sequence[Sequence[Row]], confirmed: Iterable[Row], *, spec: StudySpec, metric: Metric
) -> set[Place]:
    """Return the confirm trials that these families' nominees need, given those that have ended.

    First come the head-to-head re-runs; once all have ended, the race among the candidates.
    """
    done = ended(confirmed)
    first = range(1, min(HEAD_TO_HEAD_REPEATS, spec.confirm.repeats) + 1)
    pairs = {(row.number, repeat) for family in families if len(family) > 1 for row in family for repeat in first}
    if not pairs <= done.keys():
        return {(row.number, repeat) for family in families for row in family for repeat in first}
    return race(
        {place: metric.sign * row.test_score(metric) for place, row in done.items()},
        [row.number for row in candidates(families, done.values(), spec=spec)],
        repeats=spec.confirm.repeats,
        margin=spec.confirm.margin,
        relative=metric.relative,
    )


def head_to_head_winner(values: Mapping[Place, float], nominees: Sequence[int], *, repeats: int) -> int | None:
    """Return the nominee that becomes its family's candidate; None until their re-runs have ended.

    values: in validation, of the confirm trials that have ended; less is better.
    nominees: the best trial's number first, the baseline's last; the baseline wins a tie.
    """
    first = range(1, min(HEAD_TO_HEAD_REPEATS, repeats) + 1)
    if len(nominees) == 1 or not first:
        return nominees[0]
    if any((number, repeat) not in values for number in nominees for repeat in first):
        return None
    return min(reversed(nominees), key=lambda number: sum(values[number, repeat] for repeat in first))


def race(
    scores: Mapping[Place, float], candidates: Sequence[int], *, repeats: int, margin: float, relative: bool
) -> set[Place]:
    """Return the confirm trials of the race, ended and new, as far as known now.

    All candidates run the first `LEAST_REPEATS`. Then come rounds of one repeat for each candidate that is still open.
    A round is decided from complete rounds alone, so any number of workers run the same trials. So does a study that
    was interrupted, or whose `repeats` have grown. Open candidates get the repeats that closed ones leave.

    scores: of the trials that have ended; more is better; NaN where one failed.
    candidates: the numbers of their exploring trials.
    repeats: the budget, as the mean number of repeats of a candidate.
    relative: take the margin as a share of the leader's score.
    """
    places = {(number, repeat) for repeat in range(1, min(repeats, LEAST_REPEATS) + 1) for number in candidates}
    if repeats <= LEAST_REPEATS or not candidates:
        return places
    still_open = list(candidates)
    for repeat in count(LEAST_REPEATS + 1):
        if not places <= scores.keys():
            break
        rounds = np.array([[scores[number, before] for number in still_open] for before in range(1, repeat)])
        still_open = [
            number for number, is_open in zip(still_open, _open(rounds, margin, relative), strict=True) if is_open
        ]
        spent = sum(number in candidates and before < repeat for number, before in scores)
        if not still_open or spent + len(still_open) > len(candidates) * repeats:
            break
        places |= {(number, repeat) for number in still_open}
    return places


def _open(scores: NDArray[np.float64], margin: float, relative: bool) -> list[bool]:
    """Return which candidates need another repeat, from scores (rounds, candidates).

    These are the leader and the candidates near it, until all of them are known to be as good or are closed.
    """
    rounds, candidates = scores.shape
    means = np.where(np.isnan(scores).any(axis=0), -inf, scores.mean(axis=0))
    leader = int(means.argmax())
    if means[leader] == -inf:
        return [False] * candidates
    margin *= abs(means[leader]) if relative else 1.0
    is_open, settled = [True] * candidates, True
    for other in range(candidates):
        if means[other] == -inf:
            is_open[other] = False
        elif other != leader:
            gap = means[leader] - means[other]
            error = float((scores[:, leader] - scores[:, other]).std(ddof=1)) / sqrt(rounds)
            is_open[other] = gap <= margin or tail(gap, error, rounds - 1) >= CLOSED_BELOW
            settled &= not is_open[other] or tail(margin - gap, error, rounds - 1) < ALIKE_BELOW
    return [False] * candidates if settled else is_open


def tail(distance: float, error: float, freedom: int) -> float:
    """Return P(T > distance / error) for Student's t with these degrees of freedom."""
    if error == 0:
        return 0.5 if distance == 0 else float(distance < 0)
    return float(stdtr(freedom, -distance / error))
