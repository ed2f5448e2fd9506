import numpy as np
import pytest

from search.verdict import contending, outcomes_covariance, probability_best, resample


def verdict_of(rng, *, truth, chains=5, examples=500, chain_noise=0.01, margin=0.01):
    """A simulated confirm phase with known truth: who contends, and is there a winner?"""
    truth = np.asarray(truth)
    skill = rng.normal(size=(examples, 1)) * 1.0
    shift = rng.normal(scale=chain_noise * 5, size=(chains, 1, len(truth)))
    threshold = np.log(truth / (1 - truth)) * 1.2
    noise = rng.logistic(size=(chains, examples, len(truth))) * 0.6
    correct = (threshold + shift + skill[None] + noise > 0).astype(float)
    scores = correct.mean(axis=1)
    draws = resample(scores, outcomes_covariance(correct.mean(axis=0)), seed=0, draws=2000)
    p_best = probability_best(draws)
    contends = contending(scores.mean(axis=0), p_best, margin=margin, chains=chains)
    return contends, bool(contends.sum() == 1 and p_best.max() >= 0.95)


def test_identical_strategies_seldom_have_a_winner():
    rng = np.random.default_rng(0)
    winners = sum(verdict_of(rng, truth=[0.85] * 6)[1] for _ in range(300))
    assert winners <= 0.05 * 300


def test_what_is_far_behind_is_ruled_out_and_the_best_contends():
    rng = np.random.default_rng(1)
    rounds = [verdict_of(rng, truth=[0.75, 0.9, 0.9])[0] for _ in range(100)]
    assert sum(not contends[0] for contends in rounds) >= 97
    assert sum(contends[1] or contends[2] for contends in rounds) == 100


def test_a_clear_lead_is_a_winner():
    rng = np.random.default_rng(2)
    assert sum(verdict_of(rng, truth=[0.7, 0.9])[1] for _ in range(100)) >= 95


def test_intervals_over_chains_are_students():
    # With the chains' noise alone, the 90 % interval is the t interval: mean +- t(0.95, 4) s / sqrt(5).
    scores = np.array([[0.80], [0.82], [0.84], [0.81], [0.83]])
    draws = resample(scores, None, seed=0, draws=200_000)
    low, high = np.quantile(draws[:, 0], [0.05, 0.95])
    half = 2.1318 * scores.std(ddof=1) / np.sqrt(5)
    assert (low, high) == pytest.approx((0.82 - half, 0.82 + half), abs=5e-4)


def test_test_examples_widen_the_interval():
    scores = np.full((5, 1), 0.8)
    outcomes = (np.arange(100) < 80).astype(float)[:, None]
    draws = resample(scores, outcomes_covariance(outcomes), seed=0)
    assert draws[:, 0].std() == pytest.approx(np.sqrt(0.8 * 0.2 / 99), rel=0.03)


def test_equal_strategies_share_p_best():
    scores = np.repeat(np.array([[0.8], [0.9], [0.85], [0.7], [0.8]]), 4, axis=1)
    assert probability_best(resample(scores, None, seed=0)) == pytest.approx([0.25] * 4)


def test_within_the_margin_of_the_leader_is_a_contender():
    contends = contending(np.array([0.86, 0.85, 0.8, 0.8]), np.array([0.93, 0.0, 0.07, 0.0]), margin=0.01, chains=5)
    assert contends.tolist() == [True, True, True, False], "a gap of the margin itself is within it"


def test_fewer_than_five_chains_rule_nothing_out():
    assert contending(np.array([0.9, 0.1]), np.array([1.0, 0.0]), margin=0.01, chains=4).all()
