"""The confirm race: the repeats that each candidate runs.

As in irace (Lopez-Ibanez et al., 2016, doi:10.1016/j.orp.2016.09.002), a candidate that can no longer win gets no
more repeats. Unlike there, its score so far is still judged.
"""

from collections.abc import Mapping, Sequence
from itertools import count
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from strategies import FreezingStrategy

LEAST_REPEATS = 5
"""Fewest repeats before a strategy may be ruled out.

With 3, identical strategies name a winner one time in ten.
"""
CLOSED_BELOW = 0.0005
"""P(better than the leader) below which a candidate beyond the margin is closed.

Each round checks it again, and a winner needs the P of all others together to be small.
"""
ALIKE_BELOW = 0.05
"""P(behind by more than the margin) below which a candidate equals the leader."""

Place = tuple[FreezingStrategy, int]
"""A confirm trial at a size: its strategy, and the repeat."""


def race(
    scores: Mapping[Place, float],
    candidates: Sequence[FreezingStrategy],
    *,
    repeats: int,
    margin: float,
    relative: bool,
) -> set[Place]:
    """Return the confirm trials of the race, ended and new, as far as known now.

    All candidates run the first `LEAST_REPEATS`. Then come rounds of one repeat for each candidate that is still open.
    A round is decided from complete rounds alone, so any number of workers run the same trials. So does a study that
    was interrupted, or whose `repeats` have grown. Open candidates get the repeats that closed ones leave.

    scores: of the trials that have ended; more is better; NaN where one failed.
    repeats: the budget, as the mean number of repeats of a candidate.
    relative: take the margin as a share of the leader's score.
    """
    places = {(one, repeat) for repeat in range(1, min(repeats, LEAST_REPEATS) + 1) for one in candidates}
    if repeats <= LEAST_REPEATS or not candidates:
        return places
    still_open = list(candidates)
    for repeat in count(LEAST_REPEATS + 1):
        if not places <= scores.keys():
            break
        rounds = np.array([[scores[one, before] for one in still_open] for before in range(1, repeat)])
        still_open = [one for one, is_open in zip(still_open, _open(rounds, margin, relative), strict=True) if is_open]
        # Ended trials of candidates in complete rounds.
        spent = sum(one in candidates and before < repeat for one, before in scores)
        if not still_open or spent + len(still_open) > len(candidates) * repeats:
            break
        places |= {(one, repeat) for one in still_open}
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
