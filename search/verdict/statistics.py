"""Strategies compared by their scores over repeats and test examples. numpy only.

Mean scores are drawn from their posterior, jointly for all strategies. They give a probability of being best, and the
margin is a region of practical equivalence, ROPE, as in baycomp (Benavoli et al., 2017, arxiv.org/abs/1606.04316).
Scores have intervals, as rliable asks for where runs are few (Agarwal et al., 2021,
arxiv.org/abs/2108.13264).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.verdict.race import LEAST_REPEATS
from search.verdict.variances import covariance_of_mean, draws_share, moderated, summed

Array = NDArray[np.float64]

RULED_OUT_BELOW = 0.05
"""A strategy outside the margin is ruled out if its P(best) is smaller."""
CERTAIN = 0.975
"""Least P(best) of a winner: 0.95 would name a false one one time in ten."""
INTERVAL = 0.90
SEED_SHARE = 0.25
"""Variance of scores by the seed, in units of that by fresh draws of labels."""
PRIOR_EXAMPLES = 20
"""Test examples that the usual variance of an example's score is worth."""
DRAWS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Strategies compared: arrays (strategies,); more is better, in the unit of the margin.

    means: observed over the repeats.
    scores, low, high: the means and their 90 % intervals, without the winner's curse.
    contends: the strategy may still be best.
    as_good: it contends, and its observed mean is within the margin of the leader's. The corrected score would not do:
        without the winner's curse many come near that were seen to be worse.
    p_within_margin: the probability that it is within the margin of the best.
    expected_loss: its mean distance to the best.
    """

    means: Array
    scores: Array
    low: Array
    high: Array
    p_best: Array
    contends: NDArray[np.bool_]
    as_good: NDArray[np.bool_]
    p_within_margin: Array
    expected_loss: Array

    @property
    def winner(self) -> int | None:
        """The only contender among several strategies, if it is certain to be the best."""
        return sole_winner(self.p_best, self.contends)


def sole_winner(p_best: Array, contends: NDArray[np.bool_]) -> int | None:
    """Return the only contender of several strategies, or families, if its P(best) is certain enough."""
    is_alone = contends.sum() == 1 and len(contends) > 1
    return int(contends.argmax()) if is_alone and p_best[contends][0] >= CERTAIN else None


def sharing(trained: int, *, labels: int, crossed: bool = False) -> float:
    """Return how far repeats that share labels vary together, in units of their observed variance.

    The variance of the mean over J repeats is s^2 (1 / J + sharing), with s^2 the observed variance between repeats.
    Two draws of n out of N labels share n / N of them. If each label adds its own part to a score, that is also the
    correlation of what the draws add (Hoeffding, 1948). The observed variance lacks the shared part, and has what the
    seed adds, about a quarter of what a fresh draw adds. So sharing is (n / N) / (1.25 - n / N).
    Without a seed it would be n / (N - n): 9 at n = 0.9 N, where trained networks show 1 to 3.
    In cross-validation it is 0. There the variance between repeats also has what the folds' own examples add, and the
    test covariance counts that again. By simulation it makes up for the labels that repeats share: intervals are 0.9
    to 1.4 times as wide as they should be. With n / (N - n), or tested / trained labels (Nadeau & Bengio, 2003,
    doi:10.1023/A:1024068626366), they are 1.3 to 2.6 times.
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
    run_covariance: Array | None = None,
    draws: int = DRAWS,
) -> Comparison:
    """Compare strategies by their scores on repeats; more is better.

    scores: (repeats, strategies); NaN from where a strategy was closed.
    test_covariance: (strategies, strategies), of the mean scores over draws of the test set.
    margin: the half-width of the region of practical equivalence.
    sharing: as `sharing` returns it; 0 for repeats that share no labels.
    run_covariance: as `run_covariance` returns it. With it the winner's curse is not overestimated.
    """
    drawn, means = _drawn(scores, test_covariance, seed=seed, sharing=sharing, draws=draws)
    fair = drawn
    if run_covariance is not None:
        share = draws_share(scores, run_covariance)
        fair, _ = _drawn(scores, test_covariance, seed=seed, sharing=sharing, draws=draws, share=share)
    p_best = probability_best(drawn)
    corrected = np.minimum(means, means.max() - _selection_bias(fair, means, repeats=len(scores)))
    # Each interval moves with its corrected score.
    low, high = np.quantile(drawn, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2], axis=0) + corrected - means
    contends = contending(corrected, p_best, margin=margin, repeats=len(scores))
    behind = fair.max(axis=1, keepdims=True) - fair
    return Comparison(
        means=means,
        scores=corrected,
        low=low,
        high=high,
        p_best=p_best,
        contends=contends,
        as_good=contends & (means.max() - means <= margin + 1e-9),
        p_within_margin=(behind <= margin + 1e-9).mean(axis=0),
        expected_loss=behind.mean(axis=0),
    )


def _drawn(
    scores: Array, test_covariance: Array, *, seed: int, sharing: float, draws: int, share: float = 1.0
) -> tuple[Array, Array]:
    """Return draws of all mean scores (draws, strategies), and the means (strategies,).

    Strategies with all repeats are compared on all. One that was closed early is compared with their leader on the
    repeats that both have run. Its mean is the leader's plus their mean difference there, so that repeats that were
    easy for all give it nothing.
    """
    lengths = np.isfinite(scores).sum(axis=0)
    whole, means = np.flatnonzero(lengths == len(scores)), scores.mean(axis=0)

    def joint(rows: int, places: NDArray[np.int64], seed: int | list[int]) -> Array:
        covariance = test_covariance[np.ix_(places, places)]
        return resample(scores[:rows, places], covariance, seed=seed, sharing=sharing, draws=draws, share=share)

    drawn = np.empty((draws, len(lengths)))
    drawn[:, whole] = joint(len(scores), whole, seed)
    leader = whole[means[whole].argmax()]
    for other in np.flatnonzero(lengths < len(scores)):
        both = joint(lengths[other], np.array([leader, other]), [seed, int(other)])
        means[other] = means[leader] + (scores[: lengths[other], other] - scores[: lengths[other], leader]).mean()
        drawn[:, other] = drawn[:, leader] + both[:, 1] - both[:, 0]
    return drawn, means


def resample(
    scores: Array,
    test_covariance: Array | None,
    *,
    seed: int | list[int],
    sharing: float = 0.0,
    share: float = 1.0,
    draws: int = DRAWS,
) -> Array:
    """Draw from the posterior of the mean scores: (draws, strategies), paired over strategies.

    Two things vary: which examples were labelled (the repeat), and which are tested. The bootstrap of 5-10 repeats
    covers 77-85 % at a nominal 90 %. So repeats are drawn from the multivariate t of their covariance with
    (repeats - 1) degrees of freedom, and what `moderated` adds. For a pair of strategies that is the paired t-test.
    Test examples are many, and drawn from the normal. As in the pigeonhole bootstrap (Owen, 2007,
    doi:10.1214/07-AOAS122) their interaction counts twice, which errs towards caution.

    scores: (repeats, strategies); more is better.
    test_covariance: (strategies, strategies), of the mean scores over draws of the test set; None leaves it out.
    sharing: as `sharing` returns it.
    share: the part of the variance between repeats that is drawn.
    """
    rng = np.random.default_rng(seed)
    repeats = len(scores)
    result = np.repeat(scores.mean(axis=0, keepdims=True), draws, axis=0)
    if repeats > 1:
        centred, freedom = moderated(scores - scores.mean(axis=0))
        centred *= np.sqrt(share * (1 / repeats + sharing) / (repeats - 1))
        stretch = np.sqrt(freedom / rng.chisquare(freedom, size=(draws, 1)))
        # Mixtures of the repeats' own deviations have their covariance, and no strategy's spread can blur another's.
        result += stretch * (rng.standard_normal((draws, repeats)) @ centred)
    if test_covariance is not None:
        result += _normal(test_covariance, draws, rng)
    return result


def _selection_bias(draws: Array, means: Array, *, repeats: int) -> float:
    """Return the winner's curse: the excess of the leader's mean (Cawley & Talbot, 2010).

    The parametric bootstrap (Efron & Tibshirani, 1993) estimates it: by how much the leader of a draw exceeds its own
    mean, on average. A leader that varies less than the others has less of it, by its share in the variance of their
    gap. Below `LEAST_REPEATS` the tails of the draws are too heavy for an estimate: 0.
    """
    if repeats < LEAST_REPEATS:
        return 0.0
    bias = float((draws.max(axis=1) - means[draws.argmax(axis=1)]).mean())
    # Twice the share is 1 where all vary alike.
    return max(bias * 2 * _share(draws, int(means.argmax())), 0.0)


def _share(draws: Array, leader: int) -> float:
    """Return the leader's share (0-1) in the variance of its gap to the best other."""
    if draws.shape[1] == 1:
        return 0.0
    gap = draws[:, leader] - np.delete(draws, leader, axis=1).max(axis=1)
    common, variance = np.cov(draws[:, leader], gap)[:, 1]
    return float(np.clip(common / variance, 0.0, 1.0)) if variance > 0 else 0.0


def probability_best(draws: Array) -> Array:
    """Return P(best) (strategies,) from draws (draws, strategies); ties are split."""
    best = np.isclose(draws, draws.max(axis=1, keepdims=True), rtol=0, atol=1e-7)
    return np.asarray((best / best.sum(axis=1, keepdims=True)).mean(axis=0))


def contending(scores: Array, p_best: Array, *, margin: float, repeats: int) -> NDArray[np.bool_]:
    """Return which strategies may still be best, by P(best) or by the margin."""
    if repeats < LEAST_REPEATS:
        return np.ones(len(scores), dtype=bool)
    return np.asarray((p_best >= RULED_OUT_BELOW) | (scores.max() - scores <= margin + 1e-9))


def example_covariance(scores: Array, groups: NDArray[np.int64] | None = None) -> Array:
    """Return the covariance (strategies, strategies) of mean scores over test sets.

    With groups it is robust to clusters (Liang & Zeger, 1986, doi:10.1093/biomet/73.1.13): deviations are summed
    within a group, and groups are resampled whole. A strategy that leads on 16 to 50 test examples seems to vary less
    than it does: it has few errors there. So a smaller variance is drawn towards the lower median of all, which is
    worth `PRIOR_EXAMPLES`. And all are those of Student's t.

    scores: (examples, strategies), each example's mean over the repeats that tested it.
    groups: (examples,) integers; None: each example on its own.
    """
    deviations = summed(scores - scores.mean(axis=0), groups)
    found, count = covariance_of_mean(deviations, len(scores)), len(deviations)
    own = np.diag(found) + np.square(deviations).max(axis=0) / len(scores) ** 2
    usual = np.quantile(own, 0.5, method="lower")
    wider = np.maximum(own, (count * own + PRIOR_EXAMPLES * usual) / (count + PRIOR_EXAMPLES))
    scale = np.sqrt(wider / np.where(own > 0, np.diag(found), 1.0))
    return np.asarray(found * np.outer(scale, scale) + np.diag(np.where(own > 0, 0.0, wider)))


def run_covariance(runs: Array, groups: NDArray[np.int64] | None = None) -> Array:
    """Return the covariance (strategies, strategies) that test examples add to the scores of one repeat.

    With a test set that all repeats share that is the noise of each run on each example. In cross-validation, where
    each repeat has a fold of its own, all that examples add.

    runs: (repeats, examples, strategies) scores; NaN where a repeat did not test the example.
    groups: (examples,) integers; None: each example on its own.
    """
    tested: NDArray[np.bool_] = np.asarray(np.isfinite(runs).all(axis=2))
    is_shared = bool(tested.all())
    left = runs - runs.mean(axis=0) if is_shared else runs
    noise = np.zeros((runs.shape[2],) * 2)
    for repeat, places in enumerate(map(np.flatnonzero, tested)):
        own = left[repeat, places]
        noise += covariance_of_mean(
            summed(own - own.mean(axis=0), None if groups is None else groups[places]), len(own)
        )
    return noise / (max(len(runs) - 1, 1) if is_shared else len(runs))


def _normal(covariance: Array, draws: int, rng: np.random.Generator) -> Array:
    spreads = np.sqrt(np.diag(covariance))
    scale = np.where(spreads > 0, spreads, 1.0)  # as correlations, so that a huge variance does not blur a small one
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.asarray(scale * (rng.standard_normal((draws, len(values))) @ root.T))
