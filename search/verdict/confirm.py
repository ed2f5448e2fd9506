"""Which confirm trials a verdict needs: repeats are added where they can still change it. No torch, no optuna."""

from collections.abc import Mapping, Sequence
from itertools import count
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

LEAST_REPEATS = 5
"""With fewer repeats nothing is ruled out: among identical strategies, 3 name a false winner one time in ten."""
HEAD_TO_HEAD_REPEATS = 2
"""Repeats on which a family's best trial meets its best baseline: on validation examples, so that the test set of the
verdict has no part in it."""
CLOSED_BELOW = 0.0005
"""A candidate behind by more than the margin gets no more repeats once it is the better one with less than this
probability: it is looked at after every round, and a winner needs what all others have together to be small."""
ALIKE_BELOW = 0.05
"""It is as good as the leader once it is behind by more than the margin with less than this probability."""

Place = tuple[int, int]
"""An entrant, by the number of its exploring trial, and a repeat."""


def head_to_head_winner(values: Mapping[Place, float], entrants: Sequence[int], *, repeats: int) -> int | None:
    """Which of a family's entrants, best trial first, baseline last, is its candidate; None while their play-off runs.

    values: in validation, of the confirm trials that have ended, less is better. Of two that are alike, the baseline.
    """
    if len(entrants) == 1 or repeats == 0:
        return entrants[0]
    runs = {
        number: [(number, repeat) for repeat in range(1, min(HEAD_TO_HEAD_REPEATS, repeats) + 1)] for number in entrants
    }
    if any(place not in values for places in runs.values() for place in places):
        return None
    return min(reversed(entrants), key=lambda number: sum(values[place] for place in runs[number]))


def wanted(
    scores: Mapping[Place, float], candidates: Sequence[int], *, repeats: int, margin: float, relative: bool
) -> set[Place]:
    """The confirm trials that are needed as far as can be told now, those that have ended included.

    scores: of those that have ended, more is better; NaN where one failed. repeats: a candidate's share of the budget,
    the mean number of repeats of each. relative: whether the margin is a share of the leader's score.

    All candidates run the first `LEAST_REPEATS`; then come rounds of one repeat more for each that is still open. A
    round is decided from complete rounds alone, so any number of workers come to the same trials, and so does a study
    that was stopped, or whose `repeats` have grown. What the closed ones leave is spent on the open ones, within the
    budget.
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
    """Who of these (rounds, strategies) needs another repeat: the leader and who is near it, while any is unsettled."""
    rounds, strategies = scores.shape
    means = np.where(np.isnan(scores).any(axis=0), -inf, scores.mean(axis=0))
    leader = int(means.argmax())
    if means[leader] == -inf:
        return [False] * strategies
    margin *= abs(means[leader]) if relative else 1.0
    is_open, settled = [True] * strategies, True
    for other in range(strategies):
        if means[other] == -inf:
            is_open[other] = False
        elif other != leader:
            gap = means[leader] - means[other]
            error = float((scores[:, leader] - scores[:, other]).std(ddof=1)) / sqrt(rounds)
            is_open[other] = gap <= margin or tail(gap, error, rounds - 1) >= CLOSED_BELOW
            settled &= not is_open[other] or tail(margin - gap, error, rounds - 1) < ALIKE_BELOW
    return [False] * strategies if settled else is_open


def tail(distance: float, error: float, freedom: int) -> float:
    """P(T > distance / error) of Student's t."""
    if error == 0:
        return 0.5 if distance == 0 else float(distance < 0)
    return float(stdtr(freedom, -distance / error))
