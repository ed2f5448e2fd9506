"""Strategies compared where the truth is known."""

import numpy as np
import pytest
from scipy import stats

from search.verdict.statistics import (
    CERTAIN,
    compare,
    contending,
    example_covariance,
    probability_best,
    resample,
    run_covariance,
    sharing,
)


def verdict_of(rng, *, truth, repeats=5, examples=500, repeat_noise=0.01, margin=0.01):
    """Simulate a confirm phase with known truth; return which contend, and if there is a winner."""
    truth = np.asarray(truth)
    skill = rng.normal(size=(examples, 1)) * 1.0
    shift = rng.normal(scale=repeat_noise * 5, size=(repeats, 1, len(truth)))
    threshold = np.log(truth / (1 - truth)) * 1.2
    noise = rng.logistic(size=(repeats, examples, len(truth))) * 0.6
    correct = (threshold + shift + skill[None] + noise > 0).astype(float)
    scores = correct.mean(axis=1)
    draws = resample(scores, example_covariance(correct.mean(axis=0)), seed=0, draws=2000)
    p_best = probability_best(draws)
    contends = contending(scores.mean(axis=0), p_best, margin=margin, repeats=repeats)
    return contends, bool(contends.sum() == 1 and p_best.max() >= CERTAIN)


def test_identical_strategies_seldom_have_a_winner():
    rng = np.random.default_rng(0)
    winners = sum(verdict_of(rng, truth=[0.85] * 6)[1] for _ in range(300))
    assert winners <= 0.05 * 300


def test_far_behind_is_ruled_out_and_the_best_contends():
    rng = np.random.default_rng(1)
    rounds = [verdict_of(rng, truth=[0.75, 0.9, 0.9])[0] for _ in range(100)]
    assert sum(not contends[0] for contends in rounds) >= 97
    assert sum(contends[1] or contends[2] for contends in rounds) == 100


def test_clear_lead_is_a_winner():
    rng = np.random.default_rng(2)
    assert sum(verdict_of(rng, truth=[0.7, 0.9])[1] for _ in range(100)) >= 95


def test_resample_gives_students_interval():
    # With the repeats' noise alone, the 90 % interval is the t interval: mean +- t(0.95, 4) s / sqrt(5).
    scores = np.array([[0.80], [0.82], [0.84], [0.81], [0.83]])
    draws = resample(scores, None, seed=0, draws=200_000)
    low, high = np.quantile(draws[:, 0], [0.05, 0.95])
    half = 2.1318 * scores.std(ddof=1) / np.sqrt(5)
    assert (low, high) == pytest.approx((0.82 - half, 0.82 + half), abs=5e-4)


def test_resample_is_wider_by_test_examples():
    scores = np.full((5, 1), 0.8)
    outcomes = (np.arange(100) < 80).astype(float)[:, None]
    draws = resample(scores, example_covariance(outcomes), seed=0)
    assert draws[:, 0].std() == pytest.approx(np.sqrt(0.8 * 0.2 / 99), rel=0.03)


def test_p_best_is_shared_by_equals():
    scores = np.repeat(np.array([[0.8], [0.9], [0.85], [0.7], [0.8]]), 4, axis=1)
    assert probability_best(resample(scores, None, seed=0)) == pytest.approx([0.25] * 4)


def test_contending_includes_the_margin_itself():
    contends = contending(np.array([0.86, 0.85, 0.8, 0.8]), np.array([0.93, 0.0, 0.07, 0.0]), margin=0.01, repeats=5)
    assert contends.tolist() == [True, True, True, False], "a gap of the margin itself is within it"


def test_contending_rules_nothing_out_below_five_repeats():
    assert contending(np.array([0.9, 0.1]), np.array([1.0, 0.0]), margin=0.01, repeats=4).all()


def compared(scores, *, margin=0.01, draws=20_000):
    return compare(np.asarray(scores), np.zeros((len(scores[0]),) * 2), margin=margin, seed=0, draws=draws)


def test_compare_ignores_how_easy_a_closed_ones_repeats_were():
    # Two that are closed after five repeats: what those repeats had for all alike is in the leader's mean, not in
    # theirs.
    rng = np.random.default_rng(0)
    own = rng.normal([0.9, 0.8, 0.7], 0.003, size=(15, 3))
    own[5:, 1:] = np.nan
    ease = np.where(np.arange(15) < 5, 0.04, 0.0)[:, None]
    plain, easy = compared(own), compared(own + ease)
    gap = easy.means - plain.means
    assert gap == pytest.approx([gap[0]] * 3), "all gain what the leader's repeats do"
    assert easy.p_best == pytest.approx(plain.p_best)
    assert plain.means[0] == pytest.approx(own[:, 0].mean())
    assert plain.means[0] - plain.means[1] == pytest.approx((own[:5, 0] - own[:5, 1]).mean())


def test_compare_pairs_a_closed_strategy_by_t_test():
    scores = np.array([[0.90, 0.88], [0.88, 0.87], [0.92, 0.91], [0.89, 0.90], [0.91, 0.89], [0.90, np.nan]])
    gaps = scores[:5, 0] - scores[:5, 1]
    worse = stats.t.sf(gaps.mean() / (gaps.std(ddof=1) / np.sqrt(5)), 4)
    assert compared(scores, draws=200_000).p_best == pytest.approx([1 - worse, worse], abs=0.004)


def test_compare_with_equal_repeats_uses_all():
    scores = np.random.default_rng(0).normal(0.8, 0.02, size=(6, 4))
    assert compared(scores).p_best == pytest.approx(probability_best(resample(scores, np.zeros((4, 4)), seed=0)))


def test_compare_takes_off_the_winners_curse():
    rng = np.random.default_rng(0)
    studies = [rng.normal(0.8, 0.02, size=(5, 6)) for _ in range(200)]
    reported = np.array([compared(scores, draws=2000).scores.max() for scores in studies])
    assert np.mean([scores.mean(axis=0).max() for scores in studies]) > 0.808, "its mean is too high"
    assert abs(reported.mean() - 0.8) < 0.002


def test_compare_keeps_the_score_of_a_leader_far_ahead():
    scores = np.random.default_rng(0).normal(0.8, 0.001, size=(5, 2)) - [0.0, 0.5]
    assert compared(scores).scores == pytest.approx(scores.mean(axis=0), abs=1e-4)


def test_compare_takes_little_off_a_leader_that_hardly_varies():
    rng = np.random.default_rng(0)
    off, within = [], []
    for _ in range(300):
        found = compared(rng.normal(0.8, [0.005, 0.06], size=(5, 2)), draws=2000)
        if found.means.argmax() == 0:
            off.append(found.scores[0] - 0.8)
            within.append(found.low[0] <= 0.8 <= found.high[0])
    assert abs(np.mean(off)) < 0.002
    assert np.mean(within) > 0.8


@pytest.mark.parametrize("far", [1e3, 1e8, 1e12])
def test_compare_is_not_blurred_by_a_huge_score(far):
    # The mean squared error of a run that all but diverged.
    rng = np.random.default_rng(0)
    scores = -rng.normal([1.0, 1.05, far], [0.01, 0.01, far / 10], size=(8, 3))
    found = compared(scores)
    assert found.p_best == pytest.approx([1, 0, 0], abs=1e-3)
    assert found.scores[:2] == pytest.approx([-1.0, -1.05], abs=0.02)


def test_compare_covers_the_truth_of_closed_strategies():
    rng = np.random.default_rng(0)
    within = []
    for _ in range(400):
        scores = rng.normal([0.9, 0.85], [0.03, 0.02], size=(10, 2))
        scores[5:, 1] = np.nan
        found = compared(scores, draws=2000)
        within.append(found.low[1] <= 0.85 <= found.high[1])
    assert np.mean(within) > 0.85


def test_compare_of_one_strategy_is_its_mean():
    scores = np.array([[0.80], [0.82], [0.84], [0.81], [0.83]])
    found = compared(scores)
    assert found.scores == pytest.approx([0.82], abs=1e-3)
    assert found.winner is None, "there is none to win against"


def test_compare_puts_no_score_above_the_leaders():
    scores = np.random.default_rng(1).normal(0.8, 0.02, size=(5, 5))
    found = compared(scores)
    order = np.argsort(-found.means)
    assert (np.diff(found.scores[order]) <= 0).all()
    assert ((found.low <= found.scores) & (found.scores <= found.high)).all()


@pytest.mark.parametrize("repeats", [1, 2, 3, 4])
def test_compare_of_few_repeats_corrects_nothing(repeats):
    scores = 0.5 + 0.1 * np.random.default_rng(repeats).normal(size=(repeats, 6))
    assert np.allclose(compare(scores, np.zeros((6, 6)), margin=0.01, seed=0).scores, scores.mean(axis=0))


def test_as_good_is_by_observed_means():
    near = 0
    for seed in range(40):
        scores = 0.5 + 0.02 * np.random.default_rng(seed).normal(size=(6, 5))
        found = compare(scores, np.zeros((5, 5)), margin=0.01, seed=seed)
        means = scores.mean(axis=0)
        assert (found.as_good == found.contends & (means.max() - means <= 0.01)).all()
        near += (found.scores[~found.as_good] >= found.scores.max() - 0.01).sum()
    assert near > 0, "without the winner's curse more come near"


def test_compare_rules_nothing_out_within_the_margin():
    for seed in range(40):
        scores = 0.5 + 0.02 * np.random.default_rng(seed).normal(size=(6, 5)) * np.array([1, 0.05, 0.05, 3, 3])
        found = compare(scores, np.zeros((5, 5)), margin=0.01, seed=seed)
        assert found.contends[found.scores >= found.scores.max() - 0.01].all()


def test_compare_says_how_near_the_best_each_is():
    scores = np.random.default_rng(0).normal([0.90, 0.895, 0.7], 0.002, size=(8, 3))
    found = compared(scores)
    assert found.p_within_margin == pytest.approx([1, 1, 0], abs=0.02)
    assert found.expected_loss == pytest.approx(scores.mean(axis=0).max() - scores.mean(axis=0), abs=0.001)
    assert (found.p_within_margin >= found.p_best).all()


def test_resample_of_sharing_repeats_is_wider():
    scores = np.random.default_rng(0).normal(0.8, 0.01, size=(5, 2))
    plain, wide = (resample(scores, None, seed=0, sharing=one).std(axis=0) for one in (0.0, 0.8))
    assert wide == pytest.approx(plain * np.sqrt(5), rel=1e-6), "1/5 + 0.8 against 1/5"


def test_sharing_is_of_the_labels_that_repeats_share():
    assert sharing(100, labels=400) == pytest.approx(0.25 / 1.0)
    assert sharing(360, labels=400) == pytest.approx(0.9 / 0.35)
    assert sharing(400, labels=400) == 0, "for these labels only"
    assert sharing(96, labels=120, crossed=True) == 0


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


@pytest.mark.parametrize("is_crossed", [False, True])
def test_run_covariance_is_of_what_tests_add_to_a_repeat(is_crossed):
    """Without draws that differ, test examples make all of the variance between repeats."""
    rng, between, found = np.random.default_rng(0), [], []
    for _ in range(300):
        runs = rng.normal(size=(1, 60, 2)) + 0.5 * rng.normal(size=(5, 60, 2))
        if is_crossed:
            runs[np.arange(60) % 5 != np.arange(5)[:, None]] = np.nan
        between.append(np.nanmean(runs, axis=1).var(axis=0, ddof=1))
        found.append(np.diag(run_covariance(runs)))
    assert np.mean(found) == pytest.approx(np.mean(between), rel=0.1)


def test_run_covariance_sums_within_groups():
    runs = np.repeat(np.random.default_rng(0).normal(size=(6, 50, 2)), 4, axis=1)
    whole = run_covariance(runs, np.repeat(np.arange(50), 4))
    assert np.diag(whole) == pytest.approx(4 * np.diag(run_covariance(runs)), rel=0.03)


def test_compare_does_not_count_tests_twice_in_the_curse():
    """In cross-validation of alike strategies the leader's score is the truth, with and without the runs' noise."""
    rng, errors = np.random.default_rng(0), []
    for seed in range(150):
        outcomes = (rng.random((100, 6)) < 0.8).astype(float)
        runs = np.where((np.arange(100) % 5 == np.arange(5)[:, None])[..., None], outcomes, np.nan)
        scores, covariance = np.nanmean(runs, axis=1), example_covariance(outcomes)
        plain = compare(scores, covariance, margin=0.01, seed=seed, draws=1000)
        fair = compare(scores, covariance, margin=0.01, seed=seed, run_covariance=run_covariance(runs), draws=1000)
        assert fair.winner == plain.winner
        errors.append([plain.scores.max() - 0.8, fair.scores.max() - 0.8])
    twice, once = np.mean(errors, axis=0)
    assert abs(once) < 0.01
    assert twice < once - 0.01
