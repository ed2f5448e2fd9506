"""No winner without beating the best constant answer, which the sentence then names first."""

from dataclasses import replace

import numpy as np
import pytest

from search.report.terminal import answer
from search.report.winners import strategy_map_info
from search.verdict.judge import judge
from search.verdict.metric import METRICS
from search.verdict.trivial import Trivial, guess
from tests.search.verdict.rows import row
from tests.search.verdict.test_judge import STRATEGIES, regression, squared_errors


def study(trivial, *, truth=(0.9, 0.2, 0.5), repeats=5):
    """Return a study whose metric is the squared error; `trivial` is that of the mean, or one a repeat."""
    results = regression(squared_errors(np.random.default_rng(1), truth=truth, repeats=repeats))
    scores = np.broadcast_to(np.array(trivial, dtype=object), repeats)
    rows = [replace(one, test_trivial=scores[one.repeat - 1]) if one.judged else one for one in results.rows]
    return replace(results, rows=tuple(rows))


def test_winner_beats_the_mean():
    verdict = judge(study(0.6), 50)
    assert verdict.winner.strategy == verdict.recommended.strategy == STRATEGIES[1]
    assert not verdict.is_trivial
    assert verdict.sentence.startswith("partial freezing wins")
    assert verdict == replace(judge(study(None), 50), trivial=verdict.trivial), "nothing else depends on it"


@pytest.mark.parametrize(("trivial", "words"), [(0.01, "nothing beats"), (None, "nothing clearly beats")])
def test_no_winner_where_guessing_is_as_good(trivial, words):
    leader = judge(study(None), 50).winner
    score = trivial or (leader.score + leader.high) / 2  # inside the leader's interval
    verdict = judge(study(score), 50)
    assert verdict.winner is None
    assert verdict.is_trivial
    best = verdict.metric.interval(leader.score, leader.low, leader.high)
    sentence = f"{words} guessing the mean ({verdict.metric.with_unit(score)}): the best, partial freezing, has {best}"
    assert verdict.sentence == sentence
    assert answer(study(score), {50: verdict}).splitlines()[0] == f"50 labels: {sentence}."
    cells = strategy_map_info({50: verdict}).values()
    assert not any("★" in by_size[50].text or by_size[50].status == "winner" for by_size in cells)


def test_recommended_beats_guessing_where_a_contender_does():
    """The cheaper of two alike varies so much that it may be no better than guessing."""
    errors = np.ones((5, 2, 60)) + np.random.default_rng(0).normal(scale=0.01, size=(5, 2, 60))
    errors[:, 0] += np.array([-0.9, -0.5, 0.0, 0.5, 0.9])[:, None]
    results = regression(errors)
    assert judge(results, 50).recommended.strategy == STRATEGIES[0]
    rows = [replace(one, test_trivial=1.5) if one.judged else one for one in results.rows]
    verdict = judge(replace(results, rows=tuple(rows)), 50)
    assert verdict.recommended.strategy == STRATEGIES[1]
    assert not verdict.is_trivial


def test_sentence_says_first_that_repeats_are_too_few():
    """Two repeats say nothing of what beats guessing either."""
    for score in (0.01, 0.9):
        assert judge(study(score, repeats=2), 50).sentence.startswith("no verdict: 2 repeats")


def test_trivial_is_the_mean_over_repeats():
    scores = [0.5, 0.6, 0.7, 0.8, 0.9]
    found = judge(study(scores), 50).trivial
    assert found.score == pytest.approx(0.7)
    assert found == Trivial(guess="guessing the mean", scores=(*scores,), metric=METRICS["loss"])


@pytest.mark.parametrize("lost", [None, np.nan, np.inf])
def test_trivial_is_unknown_where_one_is_missing(lost):
    rows = [row(0, STRATEGIES[0], judged=True, test_trivial=score) for score in (0.5, lost)]
    assert Trivial.of(rows, metric=METRICS["loss"], kind="regression") is None
    assert Trivial.of([], metric=METRICS["loss"], kind="regression") is None


@pytest.mark.parametrize(
    ("name", "score", "worse", "better", "text"),
    [
        ("accuracy", 0.43, 0.43, 0.44, "guessing the most frequent class (43.0 %)"),
        ("balanced_accuracy", 0.5, 0.4, 0.51, "chance (50.0 %)"),
        ("auroc", 0.5, 0.4, 0.51, "chance (50.0 %)"),
        ("r2", 0.0, -163.0, 0.1, "guessing the mean (0.000)"),
        ("rmse", 2.0, 2.0, 1.9, "guessing the mean (2.00)"),
        ("mae", 2.0, 3.0, 1.9, "guessing the median (2.00)"),
    ],
)
def test_trivial_is_below_what_is_better(name, score, worse, better, text):
    metric = METRICS[name]
    trivial = Trivial(guess=guess(metric, metric.kinds[0]), scores=(score, score), metric=metric)
    assert trivial.is_below(better)
    assert not trivial.is_below(worse)
    assert trivial.text == text
    assert guess(METRICS["loss"], "classification") == "guessing by the classes' frequencies"
