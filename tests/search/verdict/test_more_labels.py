"""The change that more labels brought, and its interval."""

from dataclasses import replace

import numpy as np
import pytest

from search.verdict.judge import judge_all
from search.verdict.more_labels import steps
from tests.search.verdict.test_judge import STRATEGIES, regression

CHANGE = -0.05


def nested(rng, *, repeats=5, examples=300):
    """Return a study at sizes 50 and 100 whose repeats share what they are good at, and the true change.

    Labels add as much to a repeat's error at both sizes, and as much again at one alone. Examples differ, too.
    """
    hard = rng.normal(scale=0.3, size=examples)
    draw = rng.normal(scale=0.03, size=repeats)
    rows = []
    for size, truth in ((50, 0.5), (100, 0.5 + CHANGE)):
        run = truth + draw + rng.normal(scale=0.03, size=repeats)
        errors = run[:, None, None] + hard[None, None, :] + rng.normal(scale=0.3, size=(repeats, 1, examples))
        study = regression(errors, strategies=STRATEGIES[:1])
        rows += [replace(row, size=size) for row in study.rows]
    return replace(study, rows=tuple(rows))


def test_interval_covers_the_true_change():
    """Nominal 90 %; what examples add to one run counts twice, so it is a little wider."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        study = nested(rng)
        found += steps(study, judge_all(study))
    assert {(step.before, step.after) for step in found} == {(50, 100)}
    assert 0.85 <= np.mean([step.low <= CHANGE <= step.high for step in found]) <= 0.97
    # Unpaired, each of the two scores would vary by draws and examples: far more.
    widths = [step.high - step.low for step in found]
    assert np.median(widths) < 0.16


def test_change_is_the_difference_of_the_scores():
    study = nested(np.random.default_rng(1))
    verdicts = judge_all(study)
    (step,) = steps(study, verdicts)
    assert step.change == verdicts[100].recommended.score - verdicts[50].recommended.score
    assert step.high - step.change == pytest.approx(step.change - step.low)


def test_repeats_that_share_labels_widen_the_interval():
    study = nested(np.random.default_rng(1))
    narrow, wide = (steps(one, judge_all(one))[0] for one in (study, replace(study, labels=120, all=120)))
    assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)


def test_one_size_or_too_few_repeats_show_no_change():
    study = nested(np.random.default_rng(1))
    alone = replace(study, rows=tuple(row for row in study.rows if row.size == 50))
    assert steps(alone, judge_all(alone)) == []
    few = nested(np.random.default_rng(1), repeats=4)
    assert steps(few, judge_all(few)) == []


def test_sizes_of_two_extensions_show_no_change():
    """Their repeats draw from other labels, so that one's are not among the other's."""
    study = nested(np.random.default_rng(1))
    verdicts = judge_all(study)
    assert steps(study, verdicts | {100: replace(verdicts[100], extension=1)}) == []
