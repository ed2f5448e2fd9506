"""Who may still be best, from scores over repeats and test examples: draws of what the means could be. numpy only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.verdict.confirm import LEAST_REPEATS

RULED_OUT_BELOW = 0.05
CERTAIN = 0.975
"""Of two that are alike either may lead by luck: at 0.95 one comparison in ten would name a false winner."""
INTERVAL = 0.90
DRAWS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """What the repeats say of each strategy (strategies,): more is better, in the unit of the margin.

    `means` are as they were observed, `scores` without the leader's luck, and so are `low` and `high`. `contends`: it
    may still be best; `as_good`: and its mean is within the margin of the leader's, with all the luck in both: without
    the leader's luck many come near that were seen to be worse.
    """

    means: NDArray[np.float64]
    scores: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p_best: NDArray[np.float64]
    contends: NDArray[np.bool_]
    as_good: NDArray[np.bool_]

    @property
    def winner(self) -> int | None:
        """The only contender of several, if it is certain to be the best."""
        only = self.contends.sum() == 1 < len(self.contends) and self.p_best[self.contends][0] >= CERTAIN
        return int(self.contends.argmax()) if only else None


def weigh(
    scores: NDArray[np.float64], test_covariance: NDArray[np.float64], *, margin: float, seed: int, draws: int = DRAWS
) -> Comparison:
    """Weigh strategies by their scores (repeats, strategies); one that was closed has NaN from there on.

    Those with all repeats are compared on all. A closed one is compared with their leader on the repeats that both have
    run, and its score is the leader's plus their mean difference there: its own, but for the luck of those repeats.

    Who leads is lucky too: its mean is too high by what the leader of a draw is above its own mean, on average (the
    parametric bootstrap's estimate of bias; Efron & Tibshirani, 1993). That is taken off, and nobody is above it then.
    It is what leaders have on average; a leader that varies less than the others has less of it, by its part in how
    the gap between it and the best of them varies, which is a half where all vary alike.
    """
    lengths = np.isfinite(scores).sum(axis=0)
    whole = np.flatnonzero(lengths == len(scores))
    drawn = np.empty((draws, len(lengths)))
    drawn[:, whole] = resample(scores[:, whole], test_covariance[np.ix_(whole, whole)], seed=seed, draws=draws)
    means = scores.mean(axis=0)
    leader = whole[means[whole].argmax()]
    for other in np.flatnonzero(lengths < len(scores)):
        pair = [leader, other]
        shared = scores[: lengths[other], pair]
        both = resample(shared, test_covariance[np.ix_(pair, pair)], seed=[seed, int(other)], draws=draws)
        luck = means[leader] - shared[:, 0].mean()
        means[other] = shared[:, 1].mean() + luck
        drawn[:, other] = drawn[:, leader] + both[:, 1] - both[:, 0]
    p_best = probability_best(drawn)
    mended = np.minimum(means, means.max() - _luck(drawn, means, repeats=len(scores)))
    low, high = np.quantile(drawn, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2], axis=0) + mended - means
    contends = contending(mended, p_best, margin=margin, repeats=len(scores))
    as_good = contends & (means.max() - means <= margin + 1e-9)
    return Comparison(means=means, scores=mended, low=low, high=high, p_best=p_best, contends=contends, as_good=as_good)


def resample(
    scores: NDArray[np.float64],
    test_covariance: NDArray[np.float64] | None,
    *,
    seed: int | list[int],
    draws: int = DRAWS,
) -> NDArray[np.float64]:
    """Draw what the strategies' mean scores could be: (draws, strategies), paired over strategies.

    scores: (repeats, strategies), more is better; test_covariance: (strategies, strategies), that of the mean scores
    over draws of the test set, or None to leave it out.

    Two things vary: which examples were labelled (the repeat) and which are tested. Resampling 5-10 repeats by
    bootstrap covers 77-85 % at a nominal 90 %, so repeats are drawn from the multivariate t with (repeats - 1)
    degrees of freedom that their covariance gives, which for each pair of strategies is the paired t-test.
    Test examples are many, and drawn from the normal. As in the pigeonhole bootstrap (Owen, 2007) the
    interaction counts twice, which errs towards caution.
    """
    rng = np.random.default_rng(seed)
    repeats = len(scores)
    result = np.repeat(scores.mean(axis=0, keepdims=True), draws, axis=0)
    if repeats > 1:
        freedom = repeats - 1
        stretch = np.sqrt(freedom / rng.chisquare(freedom, size=(draws, 1)))
        # Mixtures of the repeats' own deviations have their covariance, and no strategy's spread can blur another's.
        centred = (scores - scores.mean(axis=0)) / np.sqrt(repeats * freedom)
        result += stretch * (rng.standard_normal((draws, repeats)) @ centred)
    if test_covariance is not None:
        result += _normal(test_covariance, draws, rng)
    return result


def _luck(draws: NDArray[np.float64], means: NDArray[np.float64], *, repeats: int) -> float:
    """By how much the leader's mean is too high: nothing where few repeats make the draws' tails too heavy to tell."""
    if repeats < LEAST_REPEATS:
        return 0.0
    luck = float((draws.max(axis=1) - means[draws.argmax(axis=1)]).mean())
    return max(luck * 2 * _part(draws, int(means.argmax())), 0.0)


def _part(draws: NDArray[np.float64], leader: int) -> float:
    """The leader's part in how its gap to the best of the others varies over the draws (draws, strategies), 0 to 1."""
    if draws.shape[1] == 1:
        return 0.0
    gap = draws[:, leader] - np.delete(draws, leader, axis=1).max(axis=1)
    common, variance = np.cov(draws[:, leader], gap)[:, 1]
    return float(np.clip(common / variance, 0.0, 1.0)) if variance > 0 else 0.0


def probability_best(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each strategy's share of the draws (draws, strategies; more is better) in which it is best; ties are shared."""
    best = np.isclose(draws, draws.max(axis=1, keepdims=True), rtol=0, atol=1e-7)
    return np.asarray((best / best.sum(axis=1, keepdims=True)).mean(axis=0))


def contending(
    scores: NDArray[np.float64], p_best: NDArray[np.float64], *, margin: float, repeats: int
) -> NDArray[np.bool_]:
    """Who may still be best: P(best) of 5 % or more, or within the margin of practical equivalence of the leader."""
    if repeats < LEAST_REPEATS:
        return np.ones(len(scores), dtype=bool)
    return np.asarray((p_best >= RULED_OUT_BELOW) | (scores.max() - scores <= margin + 1e-9))


def example_covariance(outcomes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The covariance of mean scores over draws of the test set, from each example's (examples, strategies)."""
    examples, strategies = outcomes.shape
    return np.asarray(np.cov(outcomes.T).reshape(strategies, strategies) / examples)


def _normal(covariance: NDArray[np.float64], draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    spreads = np.sqrt(np.diag(covariance))
    scale = np.where(spreads > 0, spreads, 1.0)  # as correlations, so that a huge variance does not blur a small one
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.asarray(scale * (rng.standard_normal((draws, len(values))) @ root.T))
