"""Judged runs of the candidates at a size, paired by repeat and by test example."""

from collections.abc import Sequence
from itertools import count, takewhile
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from search.verdict.confirm import ended
from search.verdict.metric import Metric
from search.verdict.results import Results
from search.verdict.rows import Row
from search.verdict.statistics import example_covariance
from strategies import FreezingStrategy

Array = NDArray[np.float64]


def judged_runs(results: Results, size: int) -> dict[FreezingStrategy, list[Row] | None]:
    """Return each candidate's confirm trials in order; None where a needed one failed."""
    done, needed = ended(results.confirmed(size)), results.needed_confirm_trials(size)
    runs: dict[FreezingStrategy, list[Row] | None] = {}
    for strategy in results.candidates(size):
        own = {row.repeat: row for row in done.values() if row.strategy == strategy}
        scored = {repeat: row for repeat, row in own.items() if isfinite(row.test_score(results.metric))}
        failed = any(place[0] == strategy and place[1] not in scored for place in needed)
        runs[strategy] = None if failed else [scored[repeat] for repeat in takewhile(scored.__contains__, count(1))]
    return runs


def score_matrix(runs: Sequence[Sequence[Row]], metric: Metric) -> Array:
    """Return scores (repeats, strategies); NaN from where a strategy was closed."""
    scores = np.full((max(map(len, runs)), len(runs)), np.nan)
    for place, rows in enumerate(runs):
        scores[: len(rows), place] = [row.test_score(metric) for row in rows]
    return scores


def covariance_over_examples(runs: Sequence[Sequence[Row]], metric: Metric) -> Array:
    """Return the covariance (strategies, strategies) of mean scores over draws of the test examples.

    A test example's score is its mean over the repeats that tested it. Groups are drawn whole.
    """
    means, groups = zip(*(_by_example(rows) for rows in runs), strict=True)
    tested = set(means[0]).intersection(*means[1:])
    if len(tested) > 1:
        order = sorted(tested)
        known = None if None in groups[0].values() else np.array([groups[0][one] for one in order], dtype=np.int64)
        return example_covariance(np.array([[mean[one] for mean in means] for one in order]), known)
    # The study's folder is not here. Without the score of each example, two strategies' count as independent, and
    # those of a strategy's repeats as the same, which makes intervals and verdicts more careful, never less.
    errors = [[row.test_se for row in rows] for rows in runs]
    if all(error is not None for rows in errors for error in rows):
        return np.diag([np.square(np.array(rows, dtype=float)).mean() for rows in errors])
    examples = min(row.test_examples or 1 for rows in runs for row in rows)
    shares = np.array([np.mean([row.test_score(metric) for row in rows]) for rows in runs])
    return np.diag(np.maximum(shares * (1 - shares), 0.0) / examples)


def _by_example(rows: Sequence[Row]) -> tuple[dict[int, float], dict[int, int | None]]:
    """Return each test example's mean score and group; nothing where a run's are missing."""
    if any(row.example_scores is None for row in rows):
        return {}, {}
    scores = np.concatenate([np.asarray(row.example_scores, dtype=float) for row in rows])
    tested = np.concatenate([_tested(row) for row in rows])
    examples, places = np.unique(tested, return_inverse=True)
    means = np.bincount(places, scores) / np.bincount(places)
    groups: dict[int, int | None] = dict.fromkeys(examples.tolist())
    for row in rows:
        if row.test_groups is not None:
            groups |= zip(_tested(row).tolist(), row.test_groups.tolist(), strict=True)
    return dict(zip(examples.tolist(), means.tolist(), strict=True)), groups


def _tested(row: Row) -> NDArray[np.int64]:
    assert row.example_scores is not None
    return np.arange(len(row.example_scores)) if row.tested is None else row.tested
