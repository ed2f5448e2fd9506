"""The change that more labels brought: the recommended strategies of neighbouring sizes, repeat by repeat."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, sqrt

import numpy as np
from scipy.stats import t

from search.verdict.judge import Verdict
from search.verdict.race import LEAST_REPEATS
from search.verdict.results import Results
from search.verdict.rows import Row
from search.verdict.runs import ExampleScores, covariance_without_examples
from search.verdict.statistics import INTERVAL, sharing


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The change of the recommended strategy's score from one size to the next.

    change, low, high: with its 90 % interval, in the metric's own unit; of an error, less is better.
    """

    before: int
    after: int
    change: float
    low: float
    high: float


def steps(results: Results, verdicts: Mapping[int, Verdict]) -> list[Step]:
    """Return the change between neighbouring sizes with a verdict, in ascending order.

    It is the difference of the two corrected scores. Repeats are nested: the 200 labels of a repeat are among its 400.
    So the interval is of the differences within repeats, by Student's t, and widens where repeats share labels. The
    variance over test examples is added, paired by example. What examples add to one run counts twice, which widens
    it, too.
    """
    known = [size for size in sorted(verdicts) if verdicts[size].repeats >= LEAST_REPEATS]
    found = (_step(results, verdicts[before], verdicts[after]) for before, after in pairwise(known))
    return [step for step in found if step is not None]


def _step(results: Results, before: Verdict, after: Verdict) -> Step | None:
    if before.extension != after.extension:  # their repeats are not nested
        return None
    runs, metric = (_runs(results, before), _runs(results, after)), results.metric
    shared = sorted(runs[0].keys() & runs[1].keys())
    if len(shared) < 2:
        return None
    paired = [[own[repeat] for repeat in shared] for own in runs]
    smaller, larger = (np.array([row.test_score(metric) for row in rows]) for rows in paired)
    labels = results.labels
    overlap = max(
        sharing(one.size, labels=labels, crossed=results.cross_validated) if labels else 0.0 for one in (before, after)
    )
    examples = ExampleScores.of(paired)
    known = covariance_without_examples(paired, metric) if examples is None else examples.covariance()
    variance = float(np.var(larger - smaller, ddof=1)) * (1 / len(shared) + overlap)
    variance += max(float(known[0, 0] + known[1, 1] - 2 * known[0, 1]), 0.0)
    half = float(t.ppf((1 + INTERVAL) / 2, len(shared) - 1)) * sqrt(variance)
    change = after.recommended.score - before.recommended.score
    return Step(before=before.size, after=after.size, change=change, low=change - half, high=change + half)


def _runs(results: Results, verdict: Verdict) -> dict[int, Row]:
    """Return the scored runs of a verdict's recommended strategy, by repeat."""
    rows = (
        row
        for row in results.view(verdict.extension).confirmed(verdict.size)
        if row.strategy == verdict.recommended.strategy
    )
    return {row.repeat: row for row in rows if isfinite(row.test_score(results.metric))}
