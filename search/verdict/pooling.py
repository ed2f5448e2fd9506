"""Effects of strategies, estimated over all sizes of a study. numpy only."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SIGNAL = 4.0
"""Variance of a strategy's effect at a size, over that of one run's noise."""
ALIKE = 0.7
"""Correlation of a strategy's effects at neighbouring sizes; two steps apart, its square."""
FAR_BEHIND, TAIL = 3.0, 5.0
"""Spreads behind a repeat's best from which a run counts for less, and its scale.

At most one spread more counts. So a run that fails to train moves nobody else, and of two bad strategies the better one
is still known.
"""


def effects(values: Array) -> Array:
    """Estimate each strategy's effect at each size from its runs at all sizes.

    A run's value is the level of its repeat and size, the strategy's effect at that size, and noise. What a strategy
    does at 100 and 400 labels informs 200. This is the best linear unbiased prediction (Henderson, 1975,
    doi:10.2307/2529430), with the constants above for its variances.

    values: (strategies, sizes, repeats), more is better; NaN where there is no run.
    Returns (strategies, sizes), in units of the size's spread; 0 for a strategy without any run.
    """
    found = _in_spreads(values)
    strategy, size, repeat = np.nonzero(np.isfinite(found))
    if not len(strategy):
        return np.zeros(values.shape[:2])
    observed = found[strategy, size, repeat]
    levels = np.unique(size * values.shape[2] + repeat, return_inverse=True)[1]
    known = np.eye(levels.max() + 1)[levels]  # (runs, levels)
    alike = SIGNAL * ALIKE ** np.abs(np.subtract.outer(np.arange(values.shape[1]), size))  # (sizes, runs)
    covariance = alike[size] * np.equal.outer(strategy, strategy) + np.eye(len(observed))
    weighed = np.linalg.solve(covariance, np.column_stack([known, observed]))
    level = np.linalg.solve(known.T @ weighed[:, :-1], known.T @ weighed[:, -1])
    left = weighed[:, -1] - weighed[:, :-1] @ level
    own = np.equal.outer(np.arange(len(values)), strategy)
    return np.asarray(own @ (alike * left).T)


def _in_spreads(values: Array) -> Array:
    """Return how far each run is behind the best of its repeat, as negative numbers.

    The unit is the distance of the best to the median in a size's first repeat. So sizes and metrics are comparable.
    """
    result = np.full(values.shape, np.nan)
    for size in range(values.shape[1]):
        runs = np.flatnonzero(np.isfinite(values[:, size]).any(axis=0))
        if not len(runs):
            continue
        first = values[:, size, runs[0]]
        spread = (np.nanmax(first) - np.nanmedian(first)) or 1.0
        own = values[:, size, runs]
        behind = (np.nanmax(own, axis=0) - own) / spread
        result[:, size, runs] = -np.where(
            behind > FAR_BEHIND, FAR_BEHIND + np.tanh((behind - FAR_BEHIND) / TAIL), behind
        )
    return result
