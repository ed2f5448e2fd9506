"""Variances from few numbers: of strategies over repeats, and of groups of test examples."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, polygamma

Array = NDArray[np.float64]


def moderated(deviations: Array) -> tuple[Array, float]:
    """Return deviations (repeats, strategies) whose variances are moderated, and their degrees of freedom.

    Variances from 5 numbers vary. From three strategies on each is shrunk to the common one by as much as they are
    alike (Smyth, 2004, doi:10.2202/1544-6115.1027). Strategies share their repeats, so the common one is worth no more
    than a strategy's own.
    """
    freedom, strategies = len(deviations) - 1, deviations.shape[1]
    variances = np.square(deviations).sum(axis=0) / freedom
    if strategies < 3 or not variances.all():
        return deviations, freedom
    logs = np.log(variances) - digamma(freedom / 2) + np.log(freedom / 2)
    excess = logs.var(ddof=1) - polygamma(1, freedom / 2)
    # The inverse of the trigamma function y(x) = 1 / x + 1 / (2 x^2), nearly.
    prior = min((1 + np.sqrt(1 + 2 * excess)) / excess, freedom) if excess > 0 else freedom
    common = np.exp(logs.mean() + digamma(prior / 2) - np.log(prior / 2))
    moderated = (prior * common + freedom * variances) / (prior + freedom)
    return deviations * np.sqrt(moderated / variances), freedom + prior


def draws_share(scores: Array, run_covariance: Array) -> float:
    """Return the part of the variance between repeats that draws add, not test examples.

    The median over strategies.
    """
    shared = scores[np.isfinite(scores).all(axis=1)]
    if len(shared) < 2:
        return 1.0
    variances = shared.var(axis=0, ddof=1)
    left = 1 - np.diag(run_covariance) / np.where(variances > 0, variances, 1.0)
    return float(np.median(np.clip(left, 0.0, 1.0)))


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
