"""Variances from few numbers: of strategies over repeats, and of groups of test examples."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, polygamma

Array = NDArray[np.float64]

MOST_BORROWED = 8.0
"""Most degrees of freedom that the usual variance is worth.

On the replay tables the variances of the twelve best strategies are as alike as with 6 and more.
"""
LEAST_KNOWN = 4.0
"""Fewest degrees of freedom of a strategy that was closed early.

They are those of five repeats. With 1 or 2 no mean exists.
"""
ALIKE = 10.0
"""Most times the median that a variance of the usual one is."""
PRIOR_EXAMPLES = 20
"""Test examples that the usual variance of an example's score is worth."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moderated:
    """Variances (strategies,) shrunk to their common one.

    freedom: of the common one.
    borrowed: (strategies,) degrees of freedom that it adds to a strategy's own.
    """

    variances: Array
    common: float
    freedom: float
    borrowed: Array


def moderated(squares: Array, freedom: NDArray[np.int64], weights: Array) -> Moderated:
    """Shrink variances to the common one by as much as they are alike.

    Variances from 5 numbers vary. That is the moderated t (Smyth, 2004, doi:10.2202/1544-6115.1027).
    Others count for at most `MOST_BORROWED` degrees of freedom.

    squares: (strategies,) sums of squared rests, after what a repeat adds for all was taken off.
    freedom: (strategies,) runs less one.
    weights: (strategies,) shares in what was taken off: so much of a rest is lost with it.
    """
    left = freedom * (1 - weights)
    known = left > 1e-6
    if not known.any():
        return Moderated(variances=np.zeros(len(squares)), common=0.0, freedom=0.0, borrowed=np.zeros(len(squares)))
    variances = np.where(known, squares / np.where(known, left, 1.0), 0.0)
    alike = known & (variances <= ALIKE * np.quantile(variances[known], 0.5, method="lower"))
    common = float(squares[alike].sum() / left[alike].sum())
    most, total = _prior(variances[known], freedom[known]), float(left.sum())
    # Of the common variance a strategy with all repeats knows as much by itself as its repeats say.
    borrowed = np.clip(total - np.where(weights > 0, freedom.max(), 0.0), 0.0, most)
    borrowed = np.maximum(borrowed, np.where(weights > 0, 0.0, LEAST_KNOWN - freedom))
    shrunk = (borrowed * common + freedom * variances) / np.maximum(borrowed + freedom, 1e-9)
    return Moderated(variances=np.where(known, shrunk, common), common=common, freedom=total, borrowed=borrowed)


def _prior(variances: Array, freedom: NDArray[np.int64]) -> float:
    """Return the degrees of freedom by which variances are alike: few if they are not."""
    if len(variances) < 3 or not variances.all():
        return MOST_BORROWED
    logs = np.log(variances) - digamma(freedom / 2) + np.log(freedom / 2)
    excess = float(logs.var(ddof=1) - polygamma(1, freedom / 2).mean())
    # The inverse of the trigamma function y(x) = 1 / x + 1 / (2 x^2), nearly.
    return min((1 + np.sqrt(1 + 2 * excess)) / excess, MOST_BORROWED) if excess > 0 else MOST_BORROWED


def draws_share(scores: Array, test_variances: Array) -> float:
    """Return the part of the variance between repeats that draws add, not test examples.

    scores: (repeats, strategies); test_variances: (strategies,), what test examples add to one repeat's score.
    """
    whole = np.isfinite(scores).all(axis=0)
    if len(scores) < 2 or not whole.any():
        return 1.0
    variances = scores[:, whole].var(axis=0, ddof=1)
    left = 1 - test_variances[whole] / np.where(variances > 0, variances, 1.0)
    return float(np.median(np.clip(left, 0.0, 1.0)))


def example_covariance(scores: Array, groups: NDArray[np.int64] | None = None) -> Array:
    """Return the covariance (strategies, strategies) of mean scores over test sets.

    With groups it is robust to clusters (Liang & Zeger, 1986, doi:10.1093/biomet/73.1.13): deviations are summed
    within a group, and groups are resampled whole. A strategy that leads on 16 to 50 test examples seems to vary less
    than it does: it has few errors there. So a smaller variance is drawn towards the lower median of all, which is
    worth `PRIOR_EXAMPLES`. And all are those of Student's t.

    scores: (examples, strategies), each example's mean over the repeats that tested it; NaN where none did. A strategy
        that was closed before all examples were tested is paired with the others on those that it has.
    groups: (examples,) integers; None: each example on its own.
    """
    tested = np.isfinite(scores)
    deviations = np.where(tested, scores - np.nanmean(scores, axis=0), 0.0)
    examples = tested.sum(axis=0)
    summed_up, count = summed(deviations, groups), _groups(tested, groups)
    both = np.minimum(examples[:, None], examples)
    found = summed_up.T @ summed_up * (count / np.maximum(count - 1, 1)) / both**2
    own = np.diag(found) + np.square(summed_up).max(axis=0) / examples**2
    usual, own_count = np.quantile(own, 0.5, method="lower"), np.diag(count)
    wider = np.maximum(own, (own_count * own + PRIOR_EXAMPLES * usual) / (own_count + PRIOR_EXAMPLES))
    scale = np.sqrt(wider / np.where(own > 0, np.diag(found), 1.0))
    found = found * np.outer(scale, scale) + np.diag(np.where(own > 0, 0.0, wider))
    return _anchored(found, examples)


def _anchored(found: Array, examples: NDArray[np.int64]) -> Array:
    """Return the covariance of means, of strategies paired on the examples that both have.

    One with fewer examples has the whole ones' mean on all, and its distance to it on its own.
    """
    most, whole = examples.max(), examples == examples.max()
    if whole.all():
        return found
    one = found * np.minimum(examples[:, None], examples)  # of a single example
    mean = one[:, whole].mean(axis=1)
    apart = one - mean[:, None] - mean + mean[whole].mean()
    return np.asarray(one / most + apart * (1 / np.minimum(examples[:, None], examples) - 1 / most))


def _groups(tested: NDArray[np.bool_], groups: NDArray[np.int64] | None) -> Array:
    """Return how many groups two strategies share: (strategies, strategies)."""
    has = (tested if groups is None else summed(tested.astype(float), groups) > 0).astype(float)
    return np.asarray(has.T @ has)


def run_covariance(runs: Array, groups: NDArray[np.int64] | None = None) -> Array:
    """Return the covariance that a run's own noise on test examples adds to its score.

    The test set is the same in all repeats. Of strategies with a single run in common the mean of the others is taken.

    runs: (repeats, examples, strategies) scores; NaN of those that were not run.
    groups: (examples,) integers; None: each example on its own.
    """
    ran: NDArray[np.bool_] = np.asarray(np.isfinite(runs).all(axis=1))
    filled, examples = np.where(ran[:, None], runs, 0.0), runs.shape[1]
    left = np.where(ran[:, None], filled - filled.sum(axis=0) / np.maximum(ran.sum(axis=0), 1), 0.0)
    noise = sum(covariance_of_mean(summed(one - one.mean(axis=0), groups), examples) for one in left)
    both = ran.T.astype(int) @ ran
    found = noise / np.maximum(both - 1, 1)
    is_known, is_own = both > 1, np.eye(len(both), dtype=bool)
    for same in (is_own, ~is_own):
        known = found[is_known & same]
        found = np.where(same & ~is_known, known.mean() if len(known) else 0.0, found)
    return np.asarray(found)


def fold_variances(runs: Array, groups: NDArray[np.int64] | None = None) -> Array:
    """Return the variances that the examples of a repeat's own fold add to its score.

    runs: (repeats, examples, strategies) scores; NaN where a run did not test the example.
    """
    found: list[list[float]] = [[] for _ in range(runs.shape[2])]
    for repeat, strategy in np.ndindex(len(runs), runs.shape[2]):
        places = np.flatnonzero(np.isfinite(runs[repeat, :, strategy]))
        if len(places):
            own = runs[repeat, places, strategy][:, None]
            deviations = summed(own - own.mean(), None if groups is None else groups[places])
            found[strategy].append(covariance_of_mean(deviations, len(own)).item())
    return np.array([np.mean(own) for own in found])


def summed(deviations: Array, groups: NDArray[np.int64] | None) -> Array:
    """Sum deviations (examples, strategies) within groups (examples,); without groups return them as they are."""
    if groups is None:
        return deviations
    places = np.unique(groups, return_inverse=True)[1]
    sums = np.zeros((places.max() + 1, deviations.shape[1]))
    np.add.at(sums, places, deviations)
    return sums


def covariance_of_mean(deviations: Array, examples: int) -> Array:
    """Return the covariance of means over so many examples, from the deviations of their groups."""
    count = len(deviations)
    return np.asarray(deviations.T @ deviations * (count / max(count - 1, 1) / examples**2))
