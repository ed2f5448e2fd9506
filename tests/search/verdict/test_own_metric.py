"""Verdicts by scores that the user's own module logs."""

from dataclasses import replace

import numpy as np
import pytest

from search.errors import StudyError
from search.verdict.judge import judge
from search.verdict.other_sizes import estimate
from tests.search.verdict.own_metric import own_results

NOISE = np.random.default_rng(0).normal(scale=0.01, size=(5, 2))


@pytest.mark.parametrize("level", [0.5, -3.0])
def test_judge_lets_the_least_own_loss_win(tmp_path, level):
    """Below 0 as well: the margin is a share of the leader's loss, whatever its sign."""
    verdict = judge(own_results(level + NOISE - [[0.0, 0.3]], out=tmp_path), 50)
    assert verdict.metric.name == "loss"
    assert verdict.winner.family == "full fine-tuning"
    best = verdict.winner
    assert best.low <= best.score <= best.high
    assert best.mean == pytest.approx(level - 0.3, abs=0.02)


def test_judge_knows_where_examples_are_left_out(tmp_path):
    """Standard errors over the examples widen the intervals; without any it is said."""
    losses = 0.5 + NOISE
    without, known = (judge(own_results(losses, out=tmp_path, test_se=error), 50) for error in (None, 0.05))
    assert (without.over_examples, known.over_examples) == (False, True)
    narrow, wide = (verdict.candidates[0].high - verdict.candidates[0].low for verdict in (without, known))
    assert narrow < wide


def test_estimate_refuses_a_loss_below_zero(tmp_path):
    """Its logarithm would not exist."""
    results = own_results(NOISE - 3, out=tmp_path)
    verdict = judge(results, 50)
    with pytest.raises(StudyError, match="its loss is below 0"):
        estimate(results, {50: verdict, 100: replace(verdict, size=100)}, size=70)
