"""Strategies compared where the truth is known."""

import numpy as np
import pytest

from search.verdict.statistics import CERTAIN, compare, contending, probability_best, sharing
from tests.simulation.spreads import judged


def verdict_of(rng, *, truth, repeats=5, examples=500, repeat_noise=0.01):
    """Simulate a confirm phase with known truth, and compare."""
    truth = np.asarray(truth)
    skill = rng.normal(size=(examples, 1)) * 1.0
    shift = rng.normal(scale=repeat_noise * 5, size=(repeats, 1, len(truth)))
    threshold = np.log(truth / (1 - truth)) * 1.2
    noise = rng.logistic(size=(repeats, examples, len(truth))) * 0.6
    correct = (threshold + shift + skill[None] + noise > 0).astype(float)
    return judged(correct, np.full(len(truth), repeats), guess=0.1)


def test_identical_strategies_seldom_have_a_winner():
    rng = np.random.default_rng(0)
    winners = sum(verdict_of(rng, truth=[0.85] * 2).winner is not None for _ in range(300))
    assert winners <= 0.05 * 300 + 7, "3 to 5 %, and twice the standard error"
    assert not any(verdict_of(rng, truth=[0.85] * 6).winner is not None for _ in range(100))


def test_far_behind_is_ruled_out_and_the_best_contends():
    rng = np.random.default_rng(1)
    rounds = [verdict_of(rng, truth=[0.75, 0.9, 0.9]).contends for _ in range(100)]
    assert sum(not contends[0] for contends in rounds) >= 97
    assert sum(contends[1] or contends[2] for contends in rounds) == 100


def test_clear_lead_is_a_winner():
    rng = np.random.default_rng(2)
    assert sum(verdict_of(rng, truth=[0.7, 0.9]).winner == 1 for _ in range(100)) >= 95


def compared(scores, *, margin=0.01, draws=20_000):
    return compare(np.asarray(scores), np.zeros((len(scores[0]),) * 2), margin=margin, seed=0, draws=draws)


def test_p_best_is_shared_by_equals():
    draws = np.repeat(np.random.default_rng(0).normal(size=(100, 1)), 4, axis=1)
    assert probability_best(draws) == pytest.approx([0.25] * 4)


def test_contending_includes_the_margin_itself():
    means, p_best = np.array([0.86, 0.85, 0.8, 0.8]), np.array([0.93, 0.0, 0.07, 0.0])
    contends = contending(means, p_best, leader=0, margin=0.01, repeats=5)
    assert contends.tolist() == [True, True, True, False], "a gap of the margin itself is within it"


def test_contending_rules_nothing_out_below_five_repeats():
    assert contending(np.array([0.9, 0.1]), np.array([1.0, 0.0]), leader=0, margin=0.01, repeats=4).all()


def test_winner_is_better_than_each_other():
    """Though all others together may well have one that is better."""
    rng = np.random.default_rng(0)
    found = [compared(rng.normal([0.9] + [0.87] * 12, 0.012, size=(8, 13)), draws=4000) for _ in range(60)]
    named = [one for one in found if one.winner is not None]
    assert len(named) >= 10
    assert all((np.delete(one.p_behind, one.leader) >= CERTAIN).all() for one in named)
    assert any(one.p_best[one.leader] < CERTAIN for one in named)


def test_winner_is_a_familys_where_two_of_it_lead():
    scores = np.random.default_rng(0).normal([0.9, 0.9, 0.8], 0.005, size=(5, 3))
    found = compared(scores)
    assert found.winner is None
    assert found.leader_wins(["one", "one", "other"])
    assert not found.leader_wins(["one", "other", "other"])
    assert not found.leader_wins(["one"] * 3), "there is none to win against"


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


def test_compare_takes_off_the_curse_at_each_rank():
    """The first of alike strategies is too good, and the last one too bad."""
    rng, observed, reported = np.random.default_rng(0), [], []
    for _ in range(200):
        found = compared(rng.normal(0.8, 0.02, size=(5, 6)), draws=2000)
        observed.append(found.means[found.order] - 0.8)
        reported.append(found.scores[found.order] - 0.8)
    assert np.mean(observed, axis=0)[[0, -1]] == pytest.approx([0.0113, -0.0113], abs=0.0015)
    assert np.abs(np.mean(reported, axis=0)).max() < 0.6 * 0.0113


def test_compare_tells_alike_strategies_apart():
    """Their order is that of what was observed, and hardly any has the leader's very score."""
    rng, alike = np.random.default_rng(0), 0
    for _ in range(50):
        found = compared(rng.normal(0.8, 0.02, size=(5, 6)), draws=2000)
        assert (np.diff(found.scores[found.order]) < 0).all()
        assert (np.diff(found.means[found.order]) <= 0).all()
        assert ((found.low <= found.scores) & (found.scores <= found.high)).all()
        alike += (found.scores > found.scores[found.leader] - 0.0005).sum() - 1
    assert alike <= 0.4 * 50, "of five others in each study"


@pytest.mark.parametrize("repeats", [1, 2, 3, 4])
def test_compare_of_few_repeats_corrects_nothing(repeats):
    scores = 0.5 + 0.1 * np.random.default_rng(repeats).normal(size=(repeats, 6))
    assert np.allclose(compare(scores, np.zeros((6, 6)), margin=0.01, seed=0).scores, scores.mean(axis=0))


def test_compare_puts_a_closed_one_after_the_leader():
    """Though its one repeat was better: it had no chance to do worse."""
    scores = np.random.default_rng(0).normal([0.9, 0.88, 0.91], 0.02, size=(8, 3))
    scores[1:, 2] = np.nan
    scores[0, 2] = scores[0, :2].mean() + 0.05
    found = compared(scores)
    assert found.means[2] > found.means[0]
    assert found.order == [0, 2, 1]
    assert found.scores[0] >= found.scores[2] > found.scores[1]
    assert found.contends[2]
    assert found.winner is None


def test_compare_moves_a_failed_run_to_all():
    """A strategy without one has its share, and its interval reaches as far as one would take it."""
    rng = np.random.default_rng(0)
    scores, failed = rng.normal([0.9, 0.88, 0.87, 0.86], 0.005, size=(5, 4)), np.zeros((5, 4), dtype=bool)
    plain = compared(scores)
    failed[1, 3] = True
    scores[1, 3] = 0.3
    found = compare(scores, np.zeros((4, 4)), margin=0.01, seed=0, failed=failed)
    assert found.order == plain.order
    assert found.scores[0] < plain.scores[0] - 0.005
    assert found.low[0] < plain.low[0] - 0.02
    assert found.low[3] < 0.8


def test_is_near_is_as_likely_as_any_to_be_within_the_margin():
    for seed in range(40):
        scores = 0.5 + 0.02 * np.random.default_rng(seed).normal(size=(6, 5)) * np.array([1, 0.05, 0.05, 3, 3])
        found = compare(scores, np.zeros((5, 5)), margin=0.01, seed=seed)
        assert (found.contends | ~found.is_near).all()
        assert found.is_near[found.p_within_margin.argmax()] or not found.contends[found.p_within_margin.argmax()]
        near = found.p_within_margin[found.is_near]
        assert near.min() >= 0.9 * found.p_within_margin[found.contends].max()
        assert found.contends[found.means >= found.means[found.leader] - 0.01].all()


def test_compare_keeps_the_score_of_a_leader_far_ahead():
    scores = np.random.default_rng(0).normal(0.8, 0.001, size=(5, 2)) - [0.0, 0.5]
    assert compared(scores).scores == pytest.approx(scores.mean(axis=0), abs=1e-4)


def test_compare_takes_little_off_a_leader_that_hardly_varies():
    rng = np.random.default_rng(0)
    off, within = [], []
    for _ in range(300):
        found = compared(rng.normal(0.8, [0.005, 0.06], size=(5, 2)), draws=2000)
        if found.leader == 0:
            off.append(found.scores[0] - 0.8)
            within.append(found.low[0] <= 0.8 <= found.high[0])
    assert abs(np.mean(off)) < 0.002
    assert np.mean(within) > 0.8


def test_compare_of_one_strategy_is_its_mean():
    scores = np.array([[0.80], [0.82], [0.84], [0.81], [0.83]])
    found = compared(scores)
    assert found.scores == pytest.approx([0.82], abs=1e-3)
    assert found.winner is None, "there is none to win against"


def test_compare_says_how_near_the_best_each_is():
    scores = np.random.default_rng(0).normal([0.90, 0.895, 0.7], 0.002, size=(8, 3))
    found = compared(scores)
    assert found.p_within_margin == pytest.approx([1, 1, 0], abs=0.02)
    assert found.expected_loss == pytest.approx(scores.mean(axis=0).max() - scores.mean(axis=0), abs=0.001)
    assert (found.p_within_margin >= found.p_best).all()


def test_sharing_is_of_the_labels_that_repeats_share():
    assert sharing(100, labels=400) == pytest.approx(0.25 / 1.0)
    assert sharing(360, labels=400) == pytest.approx(0.9 / 0.35)
    assert sharing(400, labels=400) == 0, "for these labels only"
    assert sharing(96, labels=120, crossed=True) == 0
