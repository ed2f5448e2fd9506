"""Tables of trials and verdicts: what the page shows, and the trials that give it."""

import csv
import io
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.report.csv_files import ORIGIN_COLUMNS, TRIAL_COLUMNS, VERDICT_COLUMNS, trials_csv, verdict_csv
from search.report.winners import status
from search.storage.location import StudyLocation
from search.verdict.best import find_best
from search.verdict.judge import judge_all
from search.verdict.load import load_results
from tests.search.verdict.test_judge import TWICE, regression, squared_errors

ASKED_OF_TRIALS = {"repeat", "judged", "baseline", "epochs", "test_accuracy", "test_auroc", "val_f1", "test_rmse"}
ASKED_OF_VERDICTS = (
    "size", "family", "strategy", "score", "low", "high", "p_within_margin", "expected_loss", "p_best", "status",
    "gflops", "seconds", "runs", "failed_to_train", "data", "metric", "backbone", "weights", "date", "version",
)  # fmt: skip


@pytest.fixture(scope="module")
def results(finished):
    return load_results(StudyLocation.of("tiny", out=finished / "studies", storage=None))


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


def means_of(table, name):
    """Return means of the judged rows' scores by size and strategy."""
    scores = defaultdict(list)
    for record in table:
        if record["judged"] == "True" and record[name]:
            scores[record["size"], record["strategy"]].append(float(record[name]))
    return {place: np.mean(values) for place, values in scores.items()}


def check_means(results):
    table = read(verdict_csv(results, judge_all(results)))
    means = means_of(read(trials_csv(results)), results.metric.attribute)
    assert table
    for record in table:
        if record["status"] == "failed":
            assert record["failed_to_train"] == "1"
            assert (record["score"], record["mean"]) == ("", "")
            continue
        assert record["failed_to_train"] == "0"
        assert float(record["mean"]) == pytest.approx(means[record["size"], record["strategy"]])


def test_judged_trials_have_the_verdicts_means(results):
    check_means(results)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, len(TWICE)), st.integers(1, 7), st.sampled_from([0.05, 1.0]), st.booleans()
)
def test_judged_trials_have_the_means_of_any_study(seed, strategies, repeats, noise, fails):
    rng = np.random.default_rng(seed)
    truth = rng.choice([0.3, 0.31, 0.9], strategies)
    errors = squared_errors(rng, truth=truth, repeats=repeats, repeat_noise=noise, examples=20)
    study = regression(errors, strategies=TWICE)
    if fails and strategies > 1:  # on its first repeat
        lost = {(TWICE[0], 1)}
        changed = (
            replace(row, state="FAIL", scores={}, value=None)
            if row.judged and (row.strategy, row.repeat) in lost
            else row
            for row in study.rows
        )
        study = replace(study, rows=tuple(changed))
    check_means(study)


def test_trials_are_all_there(results):
    table = read(trials_csv(results))
    assert len(table) == len(results.rows)
    assert tuple(table[0]) == TRIAL_COLUMNS
    assert {*TRIAL_COLUMNS} >= ASKED_OF_TRIALS
    for record, row in zip(table, results.rows, strict=True):
        assert record["freeze_depth"] == str(row.strategy.freeze_depth)
        assert record["epochs"] == str(row.epochs), "epochs run, not the budget"
        assert (record["judged"], record["repeat"]) == (str(row.judged), str(row.repeat))
        assert record["baseline"] == str(row.baseline)
        assert (record["test_accuracy"] != "") is row.judged
        assert record["test_rmse"] == ""


def test_verdict_rows_are_every_candidate(results):
    verdicts = judge_all(results)
    table = read(verdict_csv(results, verdicts))
    assert tuple(table[0]) == VERDICT_COLUMNS
    assert tuple(name for name in VERDICT_COLUMNS if name not in ("mean", "labels")) == ASKED_OF_VERDICTS
    every = [(size, c) for size in sorted(verdicts) for c in verdicts[size].every_candidate]
    for record, (size, c) in zip(table, every, strict=True):
        assert (record["size"], record["family"]) == (str(size), c.family)
        for name in ("score", "low", "high", "p_best", "p_within_margin", "expected_loss", "gflops", "seconds"):
            assert float(record[name]) == getattr(c, name)
        assert record["status"] == status(verdicts[size], c)
        assert (record["runs"], record["failed_to_train"]) == (str(c.repeats), "0")
        origin = find_best(results, size).provenance
        assert all(record[name] == origin[name] for name in ORIGIN_COLUMNS)
        assert record["labels"] == "847"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x"])
def test_text_never_becomes_a_formula(results, text):
    rows = (replace(results.rows[0], state="FAIL", reason=text),)
    assert [record["reason"] for record in read(trials_csv(replace(results, rows=rows)))] == [f"'{text}"]


def test_scores_are_in_the_order_of_the_candidates(results):
    for verdict in judge_all(results).values():
        scores = [c.score for c in verdict.every_candidate]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] <= verdict.every_candidate[0].mean, "without the winner's curse"
        assert all(c.low <= c.score <= c.high for c in verdict.every_candidate)
