"""Strategies compared by their scores over repeats and test examples. numpy only.

Mean scores are drawn from their posterior, jointly for all strategies. They give a probability of being best, and the
margin is a region of practical equivalence, ROPE, as in baycomp (Benavoli et al., 2017, arxiv.org/abs/1606.04316).
Scores have intervals, as rliable asks for where runs are few (Agarwal et al., 2021,
arxiv.org/abs/2108.13264).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from search.verdict.posterior import Effects, drawn, failures
from search.verdict.race import LEAST_REPEATS
from search.verdict.variances import draws_share

Array = NDArray[np.float64]

RULED_OUT_BELOW = 0.05
"""A strategy outside the margin is ruled out if its P(best) is smaller."""
CERTAIN = 0.9775
"""Least P(better) of a winner, against each other strategy.

Of two alike strategies it names one in 3 to 5 % of studies, of more in fewer: an intersection-union test (Berger,
1982, doi:10.1080/00401706.1982.10487790).
"""
NEAR_HIGHEST = 0.9
"""Least P(within the margin) of the recommended strategy, as a share of the highest."""
KEPT_DISTANCE = 0.25
"""Least share of its distance to the next better one that a score keeps."""
LEADER_WEIGHT = 4.0
"""Weight of the leader's corrected score where it would change places with others."""
INTERVAL = 0.90
SEED_SHARE = 0.25
"""Variance of scores by the seed, in units of that by fresh draws of labels."""
DRAWS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Strategies compared: arrays (strategies,); more is better, in the unit of the margin.

    leader: the best observed of those that have run all repeats.
    means: observed over the repeats; of one that was closed the leader's mean and its distance to it.
    scores, low, high: the means and their 90 % intervals, without the winner's curse.
    contends: the strategy may still be best, or its observed mean is within the margin of the leader's.
    is_near: it contends, and P(within the margin) is near the highest: the cheapest of those is recommended.
    p_behind: the probability that it is worse than the leader.
    p_within_margin: the probability that it is within the margin of the best.
    expected_loss: its mean distance to the best.
    """

    leader: int
    means: Array
    scores: Array
    low: Array
    high: Array
    p_best: Array
    p_behind: Array
    contends: NDArray[np.bool_]
    is_near: NDArray[np.bool_]
    p_within_margin: Array
    expected_loss: Array

    @property
    def order(self) -> list[int]:
        """The leader, then the others by their observed means."""
        return _order(self.means, self.leader)

    @property
    def winner(self) -> int | None:
        """The leader, if no other contends and it is certain to be better than each."""
        return self.leader if self.leader_wins(range(len(self.means))) else None

    def leader_wins(self, families: Sequence[object]) -> bool:
        """Check that the leader is certain to be better than each other family's strategies.

        families: each strategy's.
        """
        others = [place for place, family in enumerate(families) if family != families[self.leader]]
        return bool(others) and not self.contends[others].any() and bool((self.p_behind[others] >= CERTAIN).all())


def sharing(trained: int, *, labels: int, crossed: bool = False) -> float:
    """Return how far repeats that share labels vary together, in units of their observed variance.

    The variance of the mean over J repeats is s^2 (1 / J + sharing), with s^2 the observed variance between repeats.
    Two draws of n out of N labels share n / N of them. If each label adds its own part to a score, that is also the
    correlation of what the draws add (Hoeffding, 1948). The observed variance lacks the shared part, and has what the
    seed adds, about a quarter of what a fresh draw adds. So sharing is (n / N) / (1.25 - n / N).
    Without a seed it would be n / (N - n): 9 at n = 0.9 N, where trained networks show 1 to 3.
    In cross-validation it is 0. There the variance between repeats also has what the folds' own examples add, and the
    test covariance counts that again. That makes up for the labels that repeats share. In simulation intervals are 1.2
    to 1.5 times as wide as an oracle's (`python -m tests.simulation coverage`). With n / (N - n), or tested / trained
    labels (Nadeau & Bengio, 2003, doi:10.1023/A:1024068626366), they would be wider still.
    With a fixed test set and all labels the spread over draws cannot be seen: 0, for these labels only.

    trained: labels that a repeat trains on, n.
    labels: those that it draws from, N.
    crossed: by cross-validation.
    """
    share = trained / labels
    return 0.0 if crossed or share >= 1 else share / (1 + SEED_SHARE - share)


def compare(
    scores: Array,
    test_covariance: Array,
    *,
    margin: float,
    seed: int,
    sharing: float = 0.0,
    failed: NDArray[np.bool_] | None = None,
    run_variances: Array | None = None,
    crossed: bool = False,
    draws: int = DRAWS,
) -> Comparison:
    """Compare strategies by their scores on repeats; more is better.

    scores: (repeats, strategies); NaN from where a strategy was closed, after any number of repeats.
    test_covariance: (strategies, strategies), of the mean scores over draws of the test set.
    margin: the half-width of the region of practical equivalence.
    sharing: as `sharing` returns it; 0 for repeats that share no labels.
    failed: (repeats, strategies), the runs that failed to train.
    run_variances: (strategies,) what test examples add to a repeat's score; None where it is not known. Repeats share
        none of it.
    crossed: by cross-validation. Then the test covariance has it again, and the winner's curse is not that large.
    """
    failed = np.zeros(scores.shape, dtype=bool) if failed is None else failed
    effects = Effects.of(scores, failed)
    lost, usually_lost = failures(effects, scores, failed, seed=seed, draws=draws)
    share = 1.0 if run_variances is None else draws_share(scores, run_variances)
    samples = drawn(effects, test_covariance, seed=seed, draws=draws, sharing=share * sharing) - lost
    fair = samples
    if crossed and share < 1:
        fair = drawn(effects, test_covariance, seed=seed, draws=draws, sharing=sharing, share=share) - lost
    leader, means, centre = effects.leader, effects.observed, effects.means - usually_lost
    corrected = means if len(scores) < LEAST_REPEATS else _corrected(fair, centre, means, leader)
    # Each interval moves with its corrected score.
    low, high = np.quantile(samples, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2], axis=0) + corrected - centre
    behind = fair.max(axis=1, keepdims=True) - fair
    p_best, near = probability_best(samples), (behind <= margin + 1e-9).mean(axis=0)
    contends = contending(means, p_best, leader=leader, margin=margin, repeats=len(scores))
    return Comparison(
        leader=leader,
        means=means,
        scores=corrected,
        low=low,
        high=high,
        p_best=p_best,
        p_behind=(samples < samples[:, [leader]]).mean(axis=0),
        contends=contends,
        is_near=contends & (near >= NEAR_HIGHEST * near[contends].max()),
        p_within_margin=near,
        expected_loss=behind.mean(axis=0),
    )


def _order(means: Array, leader: int) -> list[int]:
    return [leader, *(int(place) for place in np.argsort(-means, kind="stable") if place != leader)]


def _corrected(draws: Array, centre: Array, means: Array, leader: int) -> Array:
    """Return the means without the winner's curse, in the order of the observed ones.

    The parametric bootstrap tells the curse of each rank (Cawley & Talbot, 2010; Simon & Simon, 2013,
    doi:10.1002/sim.5835). That is by how much the one at a rank in a draw exceeds its own mean, on average. The first
    ones are too good, the last ones too bad. Where that would turn an order round, isotonic regression makes them
    equal but for `KEPT_DISTANCE`. Of them, those that vary little move little, and so does the leader.
    """
    ranked = np.argsort(-draws, axis=1, kind="stable")
    excess = (np.take_along_axis(draws, ranked, axis=1) - centre[ranked]).mean(axis=0)
    corrected = np.empty_like(centre)
    corrected[np.argsort(-centre, kind="stable")] = np.sort(centre)[::-1] - excess
    corrected[leader] = centre[leader] - max(excess[0], 0.0) * min(2 * _share(draws, leader), 1.0)
    order = _order(means, leader)
    kept = KEPT_DISTANCE * np.cumsum(np.maximum(-np.diff(centre[order], prepend=centre[leader]), 0.0))
    precision = 1 / np.maximum(draws.var(axis=0)[order], 1e-30)
    weights = np.maximum(precision / precision.max(), 1e-9) * np.where(np.arange(len(order)) == 0, LEADER_WEIGHT, 1.0)
    corrected[order] = isotonic_regression(corrected[order] + kept, weights=weights, increasing=False).x - kept
    return corrected


def _share(draws: Array, leader: int) -> float:
    """Return the leader's share (0-1) in the variance of its gap to the best other.

    A leader that varies less than the others has less of the curse: where its share is below a half.
    """
    if draws.shape[1] == 1:
        return 0.0
    gap = draws[:, leader] - np.delete(draws, leader, axis=1).max(axis=1)
    common, variance = np.cov(draws[:, leader], gap)[:, 1]
    return float(np.clip(common / variance, 0.0, 1.0)) if variance > 0 else 0.0


def probability_best(draws: Array) -> Array:
    """Return P(best) (strategies,) from draws (draws, strategies); ties are split."""
    best = np.isclose(draws, draws.max(axis=1, keepdims=True), rtol=0, atol=1e-7)
    return np.asarray((best / best.sum(axis=1, keepdims=True)).mean(axis=0))


def contending(means: Array, p_best: Array, *, leader: int, margin: float, repeats: int) -> NDArray[np.bool_]:
    """Return which strategies may still be best, by P(best) or by the margin."""
    if repeats < LEAST_REPEATS:
        return np.ones(len(means), dtype=bool)
    return np.asarray((p_best >= RULED_OUT_BELOW) | (means[leader] - means <= margin + 1e-9))
