"""Judged runs of candidates: paired by repeat, and their covariance over test examples."""

from dataclasses import replace

import numpy as np
import pytest

from search.verdict.metric import METRICS
from search.verdict.runs import ExampleScores, covariance_without_examples, judged_runs, score_matrix
from search.verdict.statistics import example_covariance, run_covariance
from tests.search.verdict.rows import row
from tests.search.verdict.test_judge import STRATEGIES, regression, squared_errors

LOSS = METRICS["loss"]
EXAMPLES, FOLDS, ROUNDS = 60, 4, 3


def crossed(errors, *, groups=None, seed=0):
    """Return runs by strategy from errors (rounds, strategies, examples): a repeat tests one fold of a shuffle."""
    rng = np.random.default_rng(seed)
    runs = [[] for _ in errors[0]]
    for round_errors in errors:
        for fold in np.array_split(rng.permutation(errors.shape[2]), FOLDS):
            for number, rows in enumerate(runs):
                own = round_errors[number, fold]
                rows.append(
                    row(
                        0, STRATEGIES[number], judged=True, repeat=len(rows) + 1, scores={"test_loss": own.mean()},
                        example_scores=own, tested=fold, test_groups=None if groups is None else groups[fold],
                    )
                )  # fmt: skip
    return runs


def covariance(runs):
    return ExampleScores.of(runs).covariance()


@pytest.fixture
def errors():
    return squared_errors(np.random.default_rng(0), truth=[0.3, 0.4, 0.5], repeats=ROUNDS, examples=EXAMPLES)


def test_covariance_pools_what_each_repeat_tested(errors):
    means = errors.mean(axis=0).T
    for seed in range(3):
        found = covariance(crossed(errors, seed=seed))
        assert found == pytest.approx(example_covariance(means))


def test_covariance_takes_groups_whole(errors):
    groups = np.random.default_rng(1).integers(0, 9, EXAMPLES)
    shared = errors + 3 * np.random.default_rng(2).random(9)[groups]  # what a patient adds to all of theirs
    whole = covariance(crossed(shared, groups=groups))
    assert whole == pytest.approx(example_covariance(shared.mean(axis=0).T, groups))
    assert whole[0, 0] > 2 * covariance(crossed(shared))[0, 0]


def test_covariance_of_a_shared_test_set_is_that_of_the_means(errors):
    judged = judged_runs(regression(errors), 50)
    found = ExampleScores.of([*judged.values()])
    assert found.covariance() == pytest.approx(example_covariance(errors.mean(axis=0).T))
    assert found.covariance_of_runs() == pytest.approx(run_covariance(errors.swapaxes(1, 2)))


def test_covariance_uses_the_examples_that_all_tested(errors):
    """A closed candidate has run fewer repeats, so fewer folds were tested by all."""
    runs = crossed(errors)
    runs[2] = runs[2][:2]
    tested = np.sort(np.concatenate([one.tested for one in runs[2]]))
    whole = np.concatenate([errors[:, :2].mean(axis=0), errors[:1, 2]]).T[tested]
    assert covariance(runs) == pytest.approx(example_covariance(whole))


def test_covariance_without_examples_counts_repeats_as_one(errors):
    runs = [[replace(one, example_scores=None, test_se=0.2) for one in rows] for rows in crossed(errors)]
    assert ExampleScores.of(runs) is None
    assert covariance_without_examples(runs, LOSS) == pytest.approx(np.diag([0.04] * 3))
    runs[0][1] = replace(runs[0][1], test_se=None)
    accuracy = METRICS["accuracy"]
    known = [
        [replace(one, scores={"test_accuracy": 0.9}, test_examples=90) for one in rows] for rows in runs
    ]  # an older study: not even a standard error
    assert covariance_without_examples(known, accuracy) == pytest.approx(np.diag([0.9 * 0.1 / 90] * 3))


def test_covariance_is_unknown_where_runs_share_no_examples(errors):
    runs = crossed(errors)
    other = [replace(one, tested=one.tested + EXAMPLES) for one in runs[1]]
    assert ExampleScores.of([runs[0], other]) is None
    alone = [[replace(one, tested=np.arange(1), example_scores=np.zeros(1)) for one in rows[:1]] for rows in runs]
    assert ExampleScores.of(alone) is None, "one example says nothing of how they differ"
    group = np.full(EXAMPLES, 3)
    assert ExampleScores.of(crossed(errors, groups=group)) is None, "nor does one group of how groups do"


def test_scores_are_nan_from_where_a_candidate_was_closed(errors):
    runs = crossed(errors)
    scores = score_matrix([runs[0], runs[1][:5]], LOSS)
    assert scores.shape == (ROUNDS * FOLDS, 2)
    assert np.isfinite(scores[:, 0]).all()
    assert np.isfinite(scores[:5, 1]).all()
    assert np.isnan(scores[5:, 1]).all()
    assert scores[0, 0] == runs[0][0].example_scores.mean()


def test_judged_runs_are_none_where_a_needed_one_failed(errors):
    results = regression(squared_errors(np.random.default_rng(0), truth=[0.3, 0.4, 0.5]))
    rows = tuple(
        replace(one, state="FAIL", scores={}) if one.strategy == STRATEGIES[1] and one.repeat == 3 else one
        for one in results.rows
    )
    runs = judged_runs(replace(results, rows=rows), 50)
    assert [*runs] == STRATEGIES[:3]
    assert runs[STRATEGIES[1]] is None
    for one in (STRATEGIES[0], STRATEGIES[2]):
        assert [run.repeat for run in runs[one]] == [1, 2, 3, 4, 5]
        assert {run.strategy for run in runs[one]} == {one}
