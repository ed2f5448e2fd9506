"""Judged runs of the candidates at a size, paired by repeat and by test example."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count, takewhile
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from search.verdict.metric import Metric
from search.verdict.results import Results
from search.verdict.rows import Row
from search.verdict.statistics import Comparison, compare
from search.verdict.trivial import Trivial
from search.verdict.variances import example_covariance, fold_variances, run_covariance
from strategies import FreezingStrategy

Array = NDArray[np.float64]

FAR_BELOW = 7.0
"""Spreads below its candidate's best run from which a run may have failed to train."""
NORMAL_MEDIAN = 1.4826
"""Standard deviation of normal numbers, in units of their median distance to the median."""
LEAST_RUNS = 10
"""Fewest runs whose usual spread is known."""
LOST_SHARE = 1 / 3
"""Least share of the best run's lead over guessing that a failed run lost."""


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


def failed_to_train(scores: Array, guess: Array | None) -> NDArray[np.bool_]:
    """Return which runs lie so far below their candidate's best that they did not train.

    That is `FAR_BELOW` times the usual spread of runs, and `LOST_SHARE` of what the best run has over guessing. The
    spread is found from the median distance to a candidate's median run, which failed runs hardly change. None is
    said to have failed where guessing is not known, or runs are fewer than `LEAST_RUNS`.

    scores: (repeats, strategies); more is better; NaN where a strategy did not run.
    guess: (repeats,) scores of the best constant answer; None where they are not known.
    """
    if guess is None or np.isfinite(scores).sum() < LEAST_RUNS:
        return np.zeros(scores.shape, dtype=bool)
    left = np.abs(scores - np.nanmedian(scores, axis=0))
    varied = left[left > 0]
    spread = NORMAL_MEDIAN * float(np.median(varied)) if len(varied) else 0.0
    best = np.nanmax(scores, axis=0)
    lost = best - scores
    return np.asarray((lost > 0) & (lost > np.maximum(FAR_BELOW * spread, LOST_SHARE * (best - guess.mean()))))


def floored(scores: Array, failed: NDArray[np.bool_], guess: Array | None) -> Array:
    """Return scores in which no failed run is worse than guessing.

    So a diverged one is no worse than others.
    """
    return scores if guess is None else np.where(failed, np.maximum(scores, guess[:, None]), scores)


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
        by_all = np.isfinite(values).any(axis=0).all(axis=1)
        several = found.groups is None or len(np.unique(found.groups[by_all])) > 1
        is_paired = (np.isfinite(values).all(axis=2).sum(axis=1) > 1).any()
        return found if several and is_paired else None

    @property
    def is_crossed(self) -> bool:
        """Repeats test examples of their own, in cross-validation."""
        tested = np.isfinite(self.values).sum(axis=1)
        return bool((tested[tested > 0] < self.values.shape[1]).any())

    def without(self, failed: NDArray[np.bool_]) -> "ExampleScores":
        """Return those of the other runs; failed: (repeats, strategies)."""
        return replace(self, values=np.where(failed[:, None], np.nan, self.values))

    def covariance(self) -> Array:
        """Return the covariance (strategies, strategies) of mean scores over draws of the test examples.

        An example's score is its mean over the repeats that tested it. Groups are drawn whole. What a run's own noise
        adds is left out where all repeats test the same examples: the variance between repeats has it already.
        """
        tested = np.isfinite(self.values)
        counts = tested.sum(axis=0)
        means = np.where(tested, self.values, 0.0).sum(axis=0) / np.where(counts > 0, counts, np.nan)
        known = np.flatnonzero(counts.any(axis=1))
        found = example_covariance(means[known], None if self.groups is None else self.groups[known])
        if self.is_crossed:
            return found
        repeats = tested.any(axis=1).sum(axis=0)
        return np.asarray(found - run_covariance(self.values, self.groups) / np.maximum(repeats[:, None], repeats))

    def run_variances(self) -> Array:
        """Return the variances (strategies,) that test examples add to the score of one repeat.

        With a test set that all repeats share that is the noise of each run on each example. In cross-validation, where
        each repeat has a fold of its own, all that examples add.
        """
        if self.is_crossed:
            return fold_variances(self.values, self.groups)
        return np.diag(run_covariance(self.values, self.groups))


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


def compare_runs(
    runs: Sequence[Sequence[Row]],
    *,
    metric: Metric,
    trivial: Trivial | None,
    margin: float,
    seed: int,
    sharing: float,
    crossed: bool,
) -> tuple[Comparison, NDArray[np.int64], float]:
    """Return a comparison, how many runs of each failed to train, and the comparison's unit.

    Its sign makes higher better. Its size is the leader's score where the margin is relative, else 1.
    """
    scores = score_matrix(runs, metric)
    unit = metric.sign * (abs(np.nanmean(scores, axis=0).min()) or 1.0 if metric.relative else 1.0)
    guess = None if trivial is None else np.array(trivial.scores) / unit
    failed = failed_to_train(scores / unit, guess)
    examples = ExampleScores.of(runs)
    examples = None if examples is None else examples.without(failed)
    known = covariance_without_examples(runs, metric) if examples is None else examples.covariance()
    found = compare(
        floored(scores / unit, failed, guess),
        known / unit**2,
        margin=margin,
        seed=seed,
        sharing=sharing,
        failed=failed,
        run_variances=None if examples is None else examples.run_variances() / unit**2,
        crossed=crossed,
    )
    return found, failed.sum(axis=0), unit
