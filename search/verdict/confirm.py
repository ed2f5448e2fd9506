"""Which confirm trials a verdict needs: chains are added where they can still change it. No torch, no optuna."""

from collections.abc import Mapping, Sequence
from itertools import count
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

LEAST_CHAINS = 5
"""With fewer chains nothing is ruled out: among identical strategies, 3 name a false winner one time in ten."""
PLAY_OFF = 2
"""Chains on which a family's best trial meets its best anchor: on validation examples, so that the test set of the
verdict has no part in it."""
CLOSED_BELOW = 0.0005
"""A finalist behind by more than the margin gets no more chains once it is the better one with less than this
probability: it is looked at after every round, and a winner needs what all others have together to be small."""
ALIKE_BELOW = 0.05
"""It is as good as the leader once it is behind by more than the margin with less than this probability."""

Place = tuple[int, int]
"""An entrant, by the number of its exploring trial, and a chain."""


def goes_on(values: Mapping[Place, float], entrants: Sequence[int], *, chains: int) -> int | None:
    """Which of a family's entrants, best trial first, anchor last, is its finalist; None while their play-off runs.

    values: in validation, of the confirm trials that have ended, less is better. Of two that are alike, the anchor.
    """
    if len(entrants) == 1 or chains == 0:
        return entrants[0]
    runs = {number: [(number, chain) for chain in range(1, min(PLAY_OFF, chains) + 1)] for number in entrants}
    if any(place not in values for places in runs.values() for place in places):
        return None
    return min(reversed(entrants), key=lambda number: sum(values[place] for place in runs[number]))


def wanted(
    scores: Mapping[Place, float], finalists: Sequence[int], *, chains: int, margin: float, relative: bool
) -> set[Place]:
    """The confirm trials that are needed as far as can be told now, those that have ended included.

    scores: of those that have ended, more is better; NaN where one failed. chains: a finalist's share of the budget,
    the mean number of chains of each. relative: whether the margin is a share of the leader's score.

    All finalists run the first `LEAST_CHAINS`; then come rounds of one chain more for each that is still open. A round
    is decided from complete rounds alone, so any number of workers come to the same trials, and so does a study that
    was stopped, or whose `chains` have grown. What the closed ones leave is spent on the open ones, within the budget.
    """
    places = {(number, chain) for chain in range(1, min(chains, LEAST_CHAINS) + 1) for number in finalists}
    if chains <= LEAST_CHAINS or not finalists:
        return places
    still_open = list(finalists)
    for chain in count(LEAST_CHAINS + 1):
        if not places <= scores.keys():
            break
        rounds = np.array([[scores[number, before] for number in still_open] for before in range(1, chain)])
        still_open = [
            number for number, is_open in zip(still_open, _open(rounds, margin, relative), strict=True) if is_open
        ]
        spent = sum(number in finalists and before < chain for number, before in scores)
        if not still_open or spent + len(still_open) > len(finalists) * chains:
            break
        places |= {(number, chain) for number in still_open}
    return places


def _open(scores: NDArray[np.float64], margin: float, relative: bool) -> list[bool]:
    """Who of these (rounds, strategies) needs another chain: the leader and who is near it, while any is unsettled."""
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
