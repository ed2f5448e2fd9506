"""Draws of mean scores from their posterior, jointly for all strategies. numpy only.

A score is a strategy's mean, what its repeat adds for all strategies, and a rest of its own: a two-way layout. What
repeats add cancels in comparisons, so a strategy that was closed early is compared on the repeats that it has run.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.verdict.variances import LEAST_KNOWN, moderated

Array = NDArray[np.float64]

ROUNDS = 4
"""Rounds of finding repeats' effects, and the variances that weight them."""
SHARED_RUNS = 5
"""Runs of a strategy that the share of failed runs of all strategies is worth.

Where 8 % of runs fail, the leader's interval covers 85 to 92 % with 5, and 83 to 93 % with 10.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Effects:
    """Scores (repeats, strategies) taken apart.

    means: (strategies,) of the runs that trained, as if each had run all repeats.
    observed: the same with the failed runs.
    common: (repeats,) what a repeat adds for all.
    own: (repeats, strategies) the rest; 0 where a strategy did not run, or failed.
    trained: (strategies,) runs that trained.
    is_whole: (strategies,) it has run all repeats.
    weights: (strategies,) shares in `common`; 0 for those that were closed.
    variance: of a rest, usual among the strategies.
    borrowed: (strategies,) degrees of freedom that the usual variance adds to a strategy's own.
    """

    means: Array
    observed: Array
    common: Array
    own: Array
    trained: NDArray[np.int64]
    is_whole: NDArray[np.bool_]
    weights: Array
    variance: float
    borrowed: Array

    @property
    def leader(self) -> int:
        """The best observed of those that have run all repeats."""
        return int(np.where(self.is_whole, self.observed, -np.inf).argmax())

    @classmethod
    def of(cls, scores: Array, failed: NDArray[np.bool_]) -> "Effects":
        """Take scores apart; NaN from where a strategy was closed."""
        clean = np.where(failed, np.nan, scores)
        is_whole: NDArray[np.bool_] = np.asarray(np.isfinite(scores).all(axis=0))
        trained = np.isfinite(clean).sum(axis=0)
        weights, common = is_whole / is_whole.sum(), _first(clean[:, is_whole])
        for is_last in [False] * ROUNDS + [True]:
            means = np.nanmean(clean - common[:, None], axis=0)
            own = np.where(np.isfinite(clean), clean - common[:, None] - means, 0.0)
            known = moderated(np.square(own).sum(axis=0), trained - 1, weights)
            if not is_last:
                variances = np.where(is_whole, known.variances, np.inf)
                weights = 1 / variances if variances.all() else is_whole.astype(float)
                weights = weights / weights.sum()
                common = _common(clean, common, weights)
        is_known = known.freedom >= min(LEAST_KNOWN, len(scores) - 1)
        return cls(
            means=means,
            observed=np.nanmean(scores - common[:, None], axis=0),
            common=common,
            own=own,
            trained=trained,
            is_whole=is_whole,
            weights=weights,
            # A leader with none to pair with says by its own spread how far any may vary.
            variance=known.common if is_known else float(common.var(ddof=1)),
            borrowed=known.borrowed if is_known else np.where(is_whole, 0.0, len(scores) - 1.0),
        )


def _first(clean: Array) -> Array:
    """Return the repeats' median over strategies: a start that no diverged strategy can spoil."""
    left = clean - np.nanmedian(clean, axis=0)
    known = np.asarray(np.isfinite(left).any(axis=1))
    return np.array([np.nanmedian(row) if some else 0.0 for row, some in zip(left, known, strict=True)])


def _common(clean: Array, common: Array, weights: Array) -> Array:
    """Return what repeats add for all, by a weighted mean; 0 in all."""
    there = np.where(np.isfinite(clean), weights, 0.0)
    left = np.where(there > 0, clean - np.nanmean(clean - common[:, None], axis=0), 0.0)
    total = there.sum(axis=1)
    found = (there * left).sum(axis=1) / np.where(total > 0, total, 1.0)
    return np.asarray(found - found.mean())


def drawn(
    effects: Effects, test_covariance: Array, *, seed: int, draws: int, sharing: float = 0.0, share: float = 1.0
) -> Array:
    """Draw from the posterior of the mean scores of runs that train.

    Returns (draws, strategies), paired over strategies.

    Two things vary: which examples were labelled (the repeat), and which are tested. The bootstrap of 5-10 repeats
    covers 77-85 % at a nominal 90 %. So repeats are drawn from Student's t. The covariance of the rests is shrunk to
    that of independent ones of the usual variance (`moderated`). For two strategies alone that is the paired t-test.
    Test examples are many, and drawn from the normal.

    test_covariance: (strategies, strategies), of the mean scores over draws of the test set.
    sharing: the variance that repeats share, see `search.verdict.statistics.sharing`.
    share: the part of the variance between repeats that is drawn.
    """
    rng = np.random.default_rng(seed)
    repeats, strategies = effects.own.shape
    result = np.repeat(effects.means[None], draws, axis=0)
    if repeats > 1:
        mixture = rng.standard_normal((draws, repeats))
        chi = rng.chisquare(repeats - 1, size=(draws, 1))
        spread = np.sqrt(share * (1 / repeats + sharing) / (repeats - 1))
        result += np.sqrt((repeats - 1) / chi) * (mixture @ (spread * effects.common))[:, None]
        # Mixtures of the repeats' own rests have their covariance, and no strategy's spread can blur another's.
        freedom = effects.trained - 1 + effects.borrowed
        scale = share * (1 / effects.trained + sharing) / np.maximum(freedom, 1e-9)
        rests = mixture @ (effects.own * np.sqrt(scale))
        usual = rng.standard_normal((draws, strategies)) * np.sqrt(effects.variance * scale * effects.borrowed)
        usual -= np.where(effects.is_whole, usual @ effects.weights[:, None], 0.0)
        # Its repeats may have been easier for the whole ones than the others were.
        missed = effects.variance / effects.is_whole.sum() * (1 / effects.trained - 1 / repeats)
        usual += rng.standard_normal((draws, strategies)) * np.sqrt(share * missed)
        result += (rests + usual) * _stretch(effects, freedom, chi, rng)
    return np.asarray(result + _normal(test_covariance, draws, rng))


def _stretch(effects: Effects, freedom: Array, chi: Array, rng: np.random.Generator) -> Array:
    """Return the factors (draws, strategies) that make a normal Student's t.

    Those with all repeats share theirs.
    """
    is_complete = effects.trained == len(effects.own)
    most = effects.borrowed[is_complete].max(initial=0.0)
    shared = chi + (rng.chisquare(most, size=chi.shape) if most > 0 else 0.0)
    alone = rng.chisquare(np.maximum(freedom, 1e-9), size=(len(chi), len(freedom)))
    return np.sqrt(freedom / np.where(is_complete, shared, np.maximum(alone, 1e-300)))


def failures(
    effects: Effects, scores: Array, failed: NDArray[np.bool_], *, seed: int, draws: int
) -> tuple[Array, Array]:
    """Return what failed runs take from the means: draws (draws, strategies), and their mean (strategies,).

    A strategy's share of failed runs is drawn near that of all strategies, so 0 of 5 is no proof that it never fails.
    A failed run loses what those that were seen lost on average. Where none failed, nothing is taken.
    """
    counts, runs = failed.sum(axis=0), np.isfinite(scores).sum(axis=0)
    if not counts.any():
        return np.zeros((1, len(counts))), np.zeros(len(counts))
    loss = float((effects.means + effects.common[:, None] - scores)[failed].mean())
    rng, total = np.random.default_rng([seed, 1]), counts.sum()
    rate = rng.beta(total + 0.5, runs.sum() - total + 0.5, size=(draws, 1))
    own = rng.beta(counts + SHARED_RUNS * rate, runs - counts + SHARED_RUNS * (1 - rate))
    usual = (total + 0.5) / (runs.sum() + 1)
    return loss * own, loss * (counts + SHARED_RUNS * usual) / (runs + SHARED_RUNS)


def _normal(covariance: Array, draws: int, rng: np.random.Generator) -> Array:
    spreads = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    scale = np.where(spreads > 0, spreads, 1.0)  # as correlations, so that a huge variance does not blur a small one
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.asarray(spreads * (rng.standard_normal((draws, len(values))) @ root.T))
