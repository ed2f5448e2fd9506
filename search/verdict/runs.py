"""Judged runs of the candidates at a size, paired by repeat and by test example."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from search.verdict.metric import Metric
from search.verdict.results import Results
from search.verdict.rows import Row
from search.verdict.statistics import example_covariance, run_covariance
from strategies import FreezingStrategy

Array = NDArray[np.float64]


def judged_runs(results: Results, size: int) -> dict[FreezingStrategy, list[Row] | None]:
    """Return each candidate's confirm trials in order; None where a needed one failed."""
    done, needed = results.ended(size), results.needed_confirm_trials(size)
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExampleScores:
    """The scores of test examples in each run.

    values: (repeats, examples, strategies), NaN where a run did not test an example.
    groups: (examples,) whose each is; None if all are their own.
    """

    values: Array
    groups: NDArray[np.int64] | None

    @classmethod
    def of(cls, runs: Sequence[Sequence[Row]]) -> "ExampleScores | None":
        """Return those of all runs; None where the study's folder is not here.

        None as well where no repeat tested the same examples for all, or they are of one group. Nothing is known then
        of how examples, or groups, differ.
        """
        rows = [row for own in runs for row in own]
        if any(row.example_scores is None for row in rows):
            return None
        examples = np.unique(np.concatenate([_tested(row) for row in rows]))
        values = np.full((max(map(len, runs)), len(examples), len(runs)), np.nan)
        groups = np.full(len(examples), -1, dtype=np.int64)
        for strategy, own in enumerate(runs):
            for repeat, row in enumerate(own):
                places = np.searchsorted(examples, _tested(row))
                values[repeat, places, strategy] = row.example_scores
                if row.test_groups is not None:
                    groups[places] = row.test_groups
        found = cls(values=values, groups=None if (groups < 0).any() else groups)
        several = found.groups is None or len(np.unique(found.groups[found.by_all])) > 1
        return found if several and len(found._shared) else None

    @property
    def by_all(self) -> NDArray[np.int64]:
        """The places of the examples that all strategies have tested."""
        return np.flatnonzero(np.all(np.isfinite(self.values).any(axis=0), axis=1))

    def covariance(self) -> Array:
        """Return the covariance (strategies, strategies) of mean scores over draws of the test examples.

        An example's score is its mean over the repeats that tested it. Groups are drawn whole.
        """
        tested = np.isfinite(self.values)
        means = np.where(tested, self.values, 0.0).sum(axis=0) / np.maximum(tested.sum(axis=0), 1)
        by_all = self.by_all
        return example_covariance(means[by_all], None if self.groups is None else self.groups[by_all])

    def covariance_of_runs(self) -> Array:
        """Return the covariance that test examples add to the scores of one repeat."""
        return run_covariance(self.values[self._shared], self.groups)

    @property
    def _shared(self) -> NDArray[np.int64]:
        """The repeats in which all strategies have tested the same examples, at least two."""
        return np.flatnonzero(np.isfinite(self.values).all(axis=2).sum(axis=1) > 1)


def knows_examples(runs: Sequence[Sequence[Row]], metric: Metric) -> bool:
    """Check that the test examples' share in the scores is known.

    Of a score that the user's own module logs it is not, where no metric here gives the same.
    """
    shares = (row.example_scores is not None or row.test_se is not None for rows in runs for row in rows)
    return not metric.own or all(shares)


def covariance_without_examples(runs: Sequence[Sequence[Row]], metric: Metric) -> Array:
    """Return the covariance of mean scores where the study's folder is not here.

    Without the score of each example, two strategies' count as independent, and those of a strategy's repeats as the
    same. That makes intervals and verdicts more careful, never less. It is 0 where a module's own steps log the
    score, and nothing is known of the examples.
    """
    if not knows_examples(runs, metric):
        return np.zeros((len(runs), len(runs)))
    errors = [[row.test_se for row in rows] for rows in runs]
    if all(error is not None for rows in errors for error in rows):
        return np.diag([np.square(np.array(rows, dtype=float)).mean() for rows in errors])
    examples = min(row.test_examples or 1 for rows in runs for row in rows)
    shares = np.array([np.mean([row.test_score(metric) for row in rows]) for rows in runs])
    return np.diag(np.maximum(shares * (1 - shares), 0.0) / examples)


def _tested(row: Row) -> NDArray[np.int64]:
    assert row.example_scores is not None
    return np.arange(len(row.example_scores)) if row.tested is None else row.tested
