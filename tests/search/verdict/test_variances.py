"""Variances from few numbers, where the truth is known."""

import numpy as np
import pytest

from search.verdict.variances import draws_share, example_covariance, fold_variances, moderated, run_covariance


def shrunk(deviations):
    """Moderate the variances of deviations (repeats, strategies) from means alone."""
    count = deviations.shape[1]
    return moderated(np.square(deviations).sum(axis=0), np.full(count, len(deviations) - 1), np.full(count, 1e-9))


def test_moderated_variances_of_alike_strategies_vary_less():
    """They keep the mean."""
    rng = np.random.default_rng(0)
    own, found = [], []
    for _ in range(500):
        deviations = rng.normal(size=(5, 6))
        deviations -= deviations.mean(axis=0)
        better = shrunk(deviations)
        assert (better.borrowed <= 8).all()
        own.append(np.square(deviations).sum(axis=0) / 4)
        found.append(better.variances)
    assert np.std(found) < 0.6 * np.std(own)
    assert np.mean(found) == pytest.approx(np.mean(own), rel=0.1)


def test_moderated_leaves_unlike_variances_alone():
    deviations = np.random.default_rng(0).normal(size=(8, 4)) * [1, 1e-3, 1e4, 1e8]
    found = shrunk(deviations)
    own = np.square(deviations).sum(axis=0) / 7
    assert found.variances[[0, 2, 3]] == pytest.approx(own[[0, 2, 3]], rel=0.25)
    assert own[1] < found.variances[1] < 0.03 * own[0]
    assert (found.borrowed < 1).all()


def test_moderated_of_two_has_none_to_borrow_from():
    """After what both have in common is taken off, one rest is the other's negative."""
    rests = np.random.default_rng(0).normal(size=5)
    rests -= rests.mean()
    squares = np.full(2, np.square(rests).sum())
    found = moderated(squares, np.array([4, 4]), np.array([0.5, 0.5]))
    assert found.borrowed == pytest.approx([0, 0])
    assert found.variances == pytest.approx(squares / 2)


def test_moderated_knows_nothing_of_single_runs():
    found = moderated(np.zeros(3), np.array([4, 0, 0]), np.array([1.0, 0.0, 0.0]))
    assert found.freedom == 0


def test_moderated_gives_a_closed_one_what_five_repeats_know():
    squares = np.array([4.0, 4e-6, 4e6, 4e12, 0.0])
    found = moderated(squares, np.array([4, 4, 4, 4, 0]), np.array([0.25] * 4 + [0]))
    assert found.borrowed[4] == 4


def test_draws_share_is_what_tests_do_not_explain():
    rng = np.random.default_rng(0)
    scores = rng.normal(scale=np.sqrt(4 + 1), size=(2000, 3))
    assert draws_share(scores, np.ones(3)) == pytest.approx(0.8, abs=0.02)
    assert draws_share(scores, np.full(3, 9.0)) == 0
    assert draws_share(scores[:1], np.ones(3)) == 1, "one repeat has no variance"
    scores[1:, 2] = np.nan
    assert draws_share(scores, np.array([1, 1, 99.0])) == pytest.approx(0.8, abs=0.02), "by those with all repeats"


def test_example_covariance_of_many_is_plain():
    scores = np.random.default_rng(0).normal(size=(5000, 3))
    assert example_covariance(scores) == pytest.approx(np.cov(scores.T) / 5000, rel=0.01)
    assert example_covariance(scores, np.arange(5000)[::-1]) == pytest.approx(example_covariance(scores))


def test_example_covariance_of_few_is_wider():
    """All right on 20 examples is no certainty where the others err."""
    scores = np.ones((20, 3))
    scores[:3, 1:] = 0
    found = np.diag(example_covariance(scores))
    assert found[0] >= 0.4 * found[1]
    assert found[1] >= 1.2 * np.var(scores[:, 1], ddof=1) / 20


def test_example_covariance_covers_clusters():
    """It is the variance of the mean over draws of whole groups, of several sizes."""
    rng, means, found = np.random.default_rng(0), [], []
    for _ in range(500):
        groups = np.repeat(np.arange(300), rng.integers(1, 6, size=300))
        scores = (rng.normal(size=300)[groups] + 0.5 * rng.normal(size=len(groups)))[:, None]
        means.append(scores.mean())
        found.append(example_covariance(scores, groups).item())
    assert np.mean(found) == pytest.approx(np.var(means), rel=0.15)
    assert np.mean(found) > 2 * example_covariance(scores).item(), "more than of examples on their own"


def test_example_covariance_pairs_a_closed_fold():
    """One that has tested a fifth: the others' mean, and its distance to them on that fifth."""
    rng, errors, found = np.random.default_rng(0), [], []
    for _ in range(400):
        skill = rng.normal(size=(200, 1))
        scores = skill + 0.5 * rng.normal(size=(200, 4))
        scores[40:, 3] = np.nan
        means = scores.mean(axis=0)
        means[3] = means[:3].mean() + (scores[:40, 3] - scores[:40, :3].mean(axis=1)).mean()
        errors.append(means)
        found.append(example_covariance(scores))
    truth = np.cov(np.array(errors).T)
    assert np.mean(found, axis=0) == pytest.approx(truth, rel=0.25)
    apart = [one[3, 3] + one[0, 0] - 2 * one[0, 3] for one in found]
    assert 0.9 <= np.mean(apart) / np.var([one[3] - one[0] for one in errors]) <= 1.4, "wider, as of few"


def test_run_covariance_is_of_what_tests_add_to_a_repeat():
    """Without draws that differ, test examples make all of the variance between repeats."""
    rng, between, found = np.random.default_rng(0), [], []
    for _ in range(300):
        runs = rng.normal(size=(1, 60, 2)) + 0.5 * rng.normal(size=(5, 60, 2))
        between.append(runs.mean(axis=1).var(axis=0, ddof=1))
        found.append(np.diag(run_covariance(runs)))
    assert np.mean(found) == pytest.approx(np.mean(between), rel=0.1)


def test_run_covariance_takes_the_others_for_a_single_run():
    rng = np.random.default_rng(0)
    runs = rng.normal(size=(1, 400, 4)) + 0.5 * rng.normal(size=(6, 400, 4))
    whole = run_covariance(runs)
    runs[3:, :, 2] = runs[1:, :, 3] = np.nan
    found = run_covariance(runs)
    assert found[:2, :2] == pytest.approx(whole[:2, :2])
    assert found[2, 2] == pytest.approx(whole[2, 2], rel=0.2), "of three runs"
    assert found[3, 3] == pytest.approx(np.diag(found)[:3].mean())


def test_run_covariance_sums_within_groups():
    runs = np.repeat(np.random.default_rng(0).normal(size=(6, 50, 2)), 4, axis=1)
    whole = run_covariance(runs, np.repeat(np.arange(50), 4))
    assert np.diag(whole) == pytest.approx(4 * np.diag(run_covariance(runs)), rel=0.03)


def test_fold_variances_are_all_that_a_fold_adds():
    rng, between, found = np.random.default_rng(0), [], []
    for _ in range(300):
        runs = rng.normal(size=(1, 60, 2)) + 0.5 * rng.normal(size=(5, 60, 2))
        runs[np.arange(60) % 5 != np.arange(5)[:, None]] = np.nan
        between.append(np.nanmean(runs, axis=1).var(axis=0, ddof=1))
        found.append(fold_variances(runs))
    assert np.mean(found) == pytest.approx(np.mean(between), rel=0.1)
