"""Judged runs of candidates: paired by repeat, and their covariance over test examples."""

from dataclasses import replace

import numpy as np
import pytest

from search.verdict.metric import METRICS
from search.verdict.runs import (
    ExampleScores,
    covariance_without_examples,
    failed_to_train,
    floored,
    judged_runs,
    score_matrix,
)
from search.verdict.variances import example_covariance, fold_variances, run_covariance
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
    own = run_covariance(errors.swapaxes(1, 2))
    assert not found.is_crossed
    assert found.covariance() == pytest.approx(example_covariance(errors.mean(axis=0).T) - own / ROUNDS)
    assert found.run_variances() == pytest.approx(np.diag(own))


def test_covariance_of_a_shared_test_set_counts_runs_once(errors):
    """Each run's own noise on an example is in the variance between repeats."""
    rng, found = np.random.default_rng(0), []
    for _ in range(200):
        runs = rng.normal(size=(1, 300, 1)) + 2 * rng.normal(size=(4, 300, 3))
        found.append(ExampleScores(values=runs, groups=None).covariance())
    assert np.mean(found, axis=0) == pytest.approx(np.full((3, 3), 1 / 300), rel=0.2)


def test_covariance_is_without_runs_that_failed(errors):
    values = errors.swapaxes(1, 2).copy()
    failed = np.zeros((ROUNDS, values.shape[2]), dtype=bool)
    failed[1, 2] = True
    values[1, :, 2] = 1e6
    found = ExampleScores(values=values, groups=None).without(failed)
    assert not found.is_crossed
    assert np.diag(found.covariance()).max() < 0.1


def test_failed_to_train_is_far_below_its_own_best_run():
    rng = np.random.default_rng(0)
    scores = rng.normal([0.9, 0.7, 0.4], 0.03, size=(6, 3)) + 0.03 * rng.normal(size=(6, 1))
    guess = np.full(6, 0.1)
    assert not failed_to_train(scores, guess).any()
    scores[2, 0], scores[4, 1] = 0.45, 0.1
    expected = np.zeros(scores.shape, dtype=bool)
    expected[2, 0] = expected[4, 1] = True
    assert (failed_to_train(scores, guess) == expected).all()
    scores[:3, 1] = 0.1
    assert failed_to_train(scores, guess)[:, 1].tolist() == [True, True, True, False, True, False], "most of them"


def test_failed_to_train_takes_a_third_of_what_is_over_guessing():
    scores = np.full((5, 2), 0.9) + 0.0001 * np.arange(10).reshape(5, 2)
    scores[0, 0] = 0.8
    assert not failed_to_train(scores, np.full(5, 0.1)).any(), "it has trained"
    scores[0, 0] = 0.6
    assert failed_to_train(scores, np.full(5, 0.1)).sum() == 1
    assert not failed_to_train(scores, None).any(), "guessing is not known"
    assert not failed_to_train(scores[:4], np.full(4, 0.1)).any(), "of eight runs no spread is known"


def test_floored_counts_a_diverged_run_as_guessing():
    scores = -np.array([[0.3, 0.4], [1e12, 0.5], [0.3, np.nan]])
    failed = np.array([[False, False], [True, False], [False, False]])
    known = floored(scores, failed, -np.array([2.0, 2.1, 2.2]))
    assert known[1, 0] == -2.1
    assert floored(scores, failed, None)[1, 0] == -1e12
    assert np.array_equal(known[~failed], scores[~failed], equal_nan=True)


def test_run_variances_of_folds_are_all_that_they_add(errors):
    found = ExampleScores.of(crossed(errors))
    assert found.is_crossed
    assert found.run_variances() == pytest.approx(fold_variances(found.values))


def test_covariance_of_a_closed_one_leaves_the_others(errors):
    """One that has run fewer repeats has tested fewer folds: the others' own examples still count."""
    runs = crossed(errors)
    whole = covariance(runs[:2])
    runs[2] = runs[2][:2]
    assert covariance(runs)[:2, :2] == pytest.approx(whole, rel=0.3)


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
