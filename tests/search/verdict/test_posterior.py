"""Scores taken apart, and the posterior of their means, where the truth is known."""

import numpy as np
import pytest
from scipy import stats

from search.verdict.posterior import Effects, drawn, failures


def effects_of(scores, failed=None):
    scores = np.asarray(scores, dtype=float)
    return Effects.of(scores, np.zeros(scores.shape, dtype=bool) if failed is None else failed)


def samples(scores, *, covariance=None, draws=20_000, **more):
    count = len(scores[0])
    covariance = np.zeros((count, count)) if covariance is None else covariance
    return drawn(effects_of(scores), covariance, seed=0, draws=draws, **more)


def test_effects_add_up_to_the_scores():
    scores = np.random.default_rng(0).normal(size=(6, 4))
    found = effects_of(scores)
    assert found.means == pytest.approx(scores.mean(axis=0))
    assert found.means + found.common[:, None] + found.own == pytest.approx(scores)
    assert found.common.sum() == pytest.approx(0)


def test_effects_of_a_closed_one_are_of_its_own_repeats():
    """Its mean has nothing of what its repeats had for all alike."""
    rng = np.random.default_rng(0)
    scores = np.array([0.9, 0.85, 0.8, 0.7]) + rng.normal(size=(6, 1)) + 0.001 * rng.normal(size=(6, 4))
    scores[1:, 3] = np.nan
    found = effects_of(scores)
    assert found.means - found.means[0] == pytest.approx([0, -0.05, -0.1, -0.2], abs=0.004)
    assert found.means[0] == pytest.approx(scores[:, 0].mean())


def test_effects_lead_by_all_repeats():
    assert effects_of([[0.9, 1.5], [0.8, np.nan]]).leader == 0, "a closed one leads nothing"


def test_draws_of_one_give_students_interval():
    # With the repeats' noise alone, the 90 % interval is the t interval: mean +- t(0.95, 4) s / sqrt(5).
    scores = np.array([[0.80], [0.82], [0.84], [0.81], [0.83]])
    low, high = np.quantile(samples(scores, draws=200_000), [0.05, 0.95])
    half = 2.1318 * scores.std(ddof=1) / np.sqrt(5)
    assert (low, high) == pytest.approx((0.82 - half, 0.82 + half), abs=5e-4)


def test_draws_of_two_give_the_paired_t_test():
    scores = np.array([[0.90, 0.88], [0.88, 0.87], [0.92, 0.91], [0.89, 0.90], [0.91, 0.89]])
    gaps = scores[:, 0] - scores[:, 1]
    found = samples(scores, draws=200_000)
    worse = stats.t.sf(gaps.mean() / (gaps.std(ddof=1) / np.sqrt(5)), 4)
    assert (found[:, 0] < found[:, 1]).mean() == pytest.approx(worse, abs=0.004)


def test_draws_borrow_the_variance_of_others():
    """The fewer noisy numbers a distance rests on, the heavier its tails."""
    rng = np.random.default_rng(0)
    both, alone = [], []
    for _ in range(200):
        scores = rng.normal(size=(5, 6))
        found = samples(scores, draws=1000)
        both.append((found[:, 0] - found[:, 1]).std())
        found = samples(scores[:, :2], draws=1000)
        alone.append((found[:, 0] - found[:, 1]).std())
    assert np.std(both) < 0.6 * np.std(alone)
    assert np.median(both) == pytest.approx(np.sqrt(2 / 5 * 12 / 10), rel=0.1)


def test_draws_are_wider_by_test_examples():
    found = samples(np.full((5, 1), 0.8), covariance=np.array([[0.0016]]))
    assert found.std() == pytest.approx(0.04, rel=0.03)


def test_draws_of_sharing_repeats_are_wider():
    scores = np.random.default_rng(0).normal(0.8, 0.01, size=(5, 2))
    plain, wide = (samples(scores, sharing=one).std(axis=0) for one in (0.0, 0.8))
    assert wide == pytest.approx(plain * np.sqrt(5), rel=1e-6), "1/5 + 0.8 against 1/5"


@pytest.mark.parametrize("far", [1e3, 1e8, 1e12])
def test_draws_are_not_blurred_by_a_huge_score(far):
    # The mean squared error of a run that all but diverged.
    scores = -np.random.default_rng(0).normal([1.0, 1.05, far], [0.01, 0.01, far / 10], size=(8, 3))
    found = samples(scores)
    assert found[:, :2].mean(axis=0) == pytest.approx([-1, -1.05], abs=0.02)
    assert found[:, :2].std(axis=0).max() < 0.01


@pytest.mark.parametrize("run", [1, 2, 3, 5])
@pytest.mark.parametrize("whole", [1, 2, 5])
def test_intervals_of_closed_strategies_cover(run, whole):
    """A distance to the leader after one repeat and more, with one strategy that has all of them and with several."""
    rng, within, widths = np.random.default_rng(run), [], []
    for seed in range(300):
        scores = 0.03 * rng.normal(size=(10, 1)) + 0.02 * rng.normal(size=(10, whole + 2))
        scores[run:, whole:] = np.nan
        found = drawn(effects_of(scores), np.zeros((whole + 2,) * 2), seed=seed, draws=1000)
        low, high = np.quantile(found[:, -1] - found[:, 0], [0.05, 0.95])
        within.append(low <= 0 <= high)
        widths.append(high - low)
    assert np.mean(within) >= 0.86
    # An oracle knows the spread, and pairs with the leader alone. A leader alone knows that of its scores at most.
    assert np.median(widths) <= (1.5 if whole > 1 else 3) * 2 * 1.645 * 0.02 * np.sqrt(2 / run)


def test_failures_take_as_much_as_they_cost():
    """One of six strategies had a run that failed: each loses its share of it, that one most."""
    rng = np.random.default_rng(0)
    scores, failed = 0.8 + 0.01 * rng.normal(size=(5, 6)), np.zeros((5, 6), dtype=bool)
    scores[2, 3] -= 0.5
    failed[2, 3] = True
    effects = effects_of(scores, failed)
    assert effects.means[3] == pytest.approx(0.8, abs=0.02), "of those that trained"
    assert effects.observed[3] == pytest.approx(scores[:, 3].mean(), abs=0.005)
    lost, usual = failures(effects, scores, failed, seed=0, draws=20_000)
    assert lost.mean(axis=0) == pytest.approx(usual, rel=0.1)
    assert usual[0] == pytest.approx(0.5 * 5 * 1.5 / 31 / 10, rel=0.05)
    assert usual[3] > 4 * usual[0]
    assert (np.quantile(lost, 0.95, axis=0) > 1.5 * usual).all()


def test_failures_take_nothing_where_none_failed():
    scores = np.random.default_rng(0).normal(size=(5, 3))
    none = np.zeros(scores.shape, dtype=bool)
    lost, usual = failures(effects_of(scores), scores, none, seed=0, draws=10)
    assert not lost.any()
    assert not usual.any()


def test_effects_pair_where_each_has_a_failed_run():
    scores = np.random.default_rng(0).normal(0.8, 0.01, size=(5, 3))
    failed = np.zeros((5, 3), dtype=bool)
    failed[[0, 1, 2], [0, 1, 2]] = True
    scores[failed] = 0.1
    found = effects_of(scores, failed)
    assert found.means == pytest.approx([0.8] * 3, abs=0.02)
    assert np.isfinite(drawn(found, np.zeros((3, 3)), seed=0, draws=100)).all()
