"""The verdict at a size: the winner and its certainty, from confirm trials alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, count, takewhile
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from search.verdict.confirm import ended
from search.verdict.metric import Metric
from search.verdict.race import LEAST_REPEATS
from search.verdict.results import Results
from search.verdict.rows import Row
from search.verdict.statistics import compare, example_covariance
from strategies import FreezingStrategy

SAME_COST = 0.1
"""Costs that differ by a smaller share count as the same: seconds are noisy."""
NORMAL_90 = 1.645
"""Half of a 90 % interval, in standard deviations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A candidate after its confirm trials.

    score: the mean test score over its repeats, corrected for the winner's curse, in the metric's own unit.
    low, high: its 90 % interval.
    p_best: the probability that it is the best.
    seconds: its fastest run. Other work on the machine and a cache that is still empty only add to that.
    contends: it may still be best.
    repeats: how many it has run; one that can't win any more gets no more.
    """

    family: str
    strategy: FreezingStrategy
    source_trial: int
    score: float
    low: float
    high: float
    p_best: float
    seconds: float
    contends: bool
    repeats: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer at one size.

    repeats: the most that any candidate has run.
    candidates: sorted by score, the leader first.
    recommended: the cheapest contender whose observed mean is within the margin of the leader's. One that was
        seen to be worse but may still be best is not taken: in replayed studies that would cost a point.
    near_optimal: the contenders' strategies, and those that the search can't tell from its best one.
    failed: families whose candidate failed on a repeat, or has no finite score there; they are not judged.
    """

    size: int
    repeats: int
    candidates: tuple[Candidate, ...]
    winner: Candidate | None
    recommended: Candidate
    near_optimal: tuple[FreezingStrategy, ...]
    failed: tuple[str, ...] = ()
    metric: Metric

    @property
    def contenders(self) -> tuple[Candidate, ...]:
        return tuple(c for c in self.candidates if c.contends)

    @property
    def ruled_out(self) -> tuple[Candidate, ...]:
        return tuple(c for c in self.candidates if not c.contends)

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if self.winner is not None:
            return f"{self.winner.family} wins (P = {self.winner.p_best:.2f})"
        if self.repeats < LEAST_REPEATS:
            repeats = "1 repeat" if self.repeats == 1 else f"{self.repeats} repeats"
            return f"no verdict: {repeats}, and it takes {LEAST_REPEATS} to rule anything out"
        if len(self.candidates) == 1:
            return f"{self.candidates[0].family} is the only one that was confirmed"
        if len(self.contenders) == 1:
            return f"no clear winner: {self.contenders[0].family} leads (P = {self.contenders[0].p_best:.2f})"
        return f"no clear winner: {', '.join(c.family for c in self.contenders)}"


def judge_all(results: Results) -> dict[int, Verdict]:
    """Return the verdict at every size that has one."""
    verdicts = {size: judge(results, size) for size in results.sizes}
    return {size: verdict for size, verdict in verdicts.items() if verdict is not None}


def judge(results: Results, size: int) -> Verdict | None:
    """Return the verdict at one size.

    None without repeats, before the size's confirm trials have ended, or if all candidates failed.
    """
    if results.spec.confirm.repeats == 0 or not results.is_confirmed(size):
        return None
    metric, sources = results.metric, results.candidates(size)
    runs = _runs(results, size)
    paired = [rows for rows in runs.values() if rows is not None]
    if not paired:
        return None
    scores = np.full((max(map(len, paired)), len(paired)), np.nan)
    for place, rows in enumerate(paired):
        scores[: len(rows), place] = [row.test_score(metric) for row in rows]
    # Compared as more is better, and in the unit that the margin is in: the leader's score, where it is relative.
    unit = metric.sign * (np.nanmean(scores, axis=0).min() or 1.0 if metric.relative else 1.0)
    found = compare(
        scores / unit, _test_covariance(paired, metric) / unit**2, margin=results.spec.confirm.margin, seed=size
    )
    score, low, high = (
        np.clip(unit * one, metric.lowest, metric.highest) for one in (found.scores, found.low, found.high)
    )
    low, high = np.minimum(low, high), np.maximum(low, high)
    candidates = [
        Candidate(
            family=rows[0].family, strategy=rows[0].strategy, source_trial=rows[0].source_trial or 0,
            score=float(score[i]), low=float(low[i]), high=float(high[i]), p_best=float(found.p_best[i]),
            seconds=min((row.seconds for row in rows if row.seconds is not None), default=0.0),
            contends=bool(found.contends[i]), repeats=len(rows),
        )
        for i, rows in enumerate(paired)
    ]  # fmt: skip
    order = np.argsort(-found.means, kind="stable")
    leader, as_good = candidates[order[0]], [candidates[i] for i in order if found.as_good[i]]
    return Verdict(
        size=size,
        repeats=len(scores),
        candidates=tuple(candidates[i] for i in order),
        winner=None if found.winner is None else candidates[found.winner],
        # Too few repeats rule nothing out, and the cheapest of everything would be no advice.
        recommended=leader if len(scores) < LEAST_REPEATS else _cheapest(as_good),
        near_optimal=near_optimal(results, size, [candidates[i] for i in order]),
        failed=tuple(row.family for row in sources if runs[row.number] is None),
        metric=metric,
    )


def near_optimal(results: Results, size: int, candidates: Sequence[Candidate]) -> tuple[FreezingStrategy, ...]:
    """Return the contenders' strategies, and those the search's noise can't tell from its best.

    candidates: sorted by score, the leader first.
    """
    contenders = [c for c in candidates if c.contends]
    noise = _noise(results, size, contenders if len(contenders) > 1 else candidates[:2])
    complete = [
        (r.strategy, results.metric.sign * r.final_value) for r in results.explored(size) if r.final_value is not None
    ]
    best = max((value for _, value in complete), default=0.0)
    close = [strategy for strategy, value in complete if best - value <= NORMAL_90 * noise]
    return tuple(dict.fromkeys([*(c.strategy for c in contenders), *close]))


def _noise(results: Results, size: int, candidates: Sequence[Candidate]) -> float:
    """Return the median over pairs of candidates of the deviation of their values' difference.

    That is the standard deviation over repeats. All exploring trials share a repeat, so its effect on all of them
    alike is no noise.
    """
    values: dict[int, dict[int, float]] = {candidate.source_trial: {} for candidate in candidates}
    for row in results.confirmed(size):
        if row.source_trial in values and row.final_value is not None:
            values[row.source_trial][row.repeat] = row.final_value
    spreads = []
    for one, other in combinations(values.values(), 2):
        shared = one.keys() & other.keys()
        if len(shared) > 1:
            spreads.append(float(np.std([one[repeat] - other[repeat] for repeat in shared], ddof=1)))
    return float(np.median(spreads)) if spreads else 0.0


def _runs(results: Results, size: int) -> dict[int, list[Row] | None]:
    """Return candidates' confirm trials by source trial; None where a needed one failed."""
    done, needed = ended(results.confirmed(size)), results.needed_confirm_trials(size)
    runs: dict[int, list[Row] | None] = {}
    for number in (source.number for source in results.candidates(size)):
        own = {row.repeat: row for row in done.values() if row.source_trial == number}
        scored = {repeat: row for repeat, row in own.items() if isfinite(row.test_score(results.metric))}
        failed = any(place[0] == number and place[1] not in scored for place in needed)
        runs[number] = None if failed else [scored[repeat] for repeat in takewhile(scored.__contains__, count(1))]
    return runs


def _cheapest(contenders: Sequence[Candidate]) -> Candidate:
    """Return the first, so the best, that costs about as little as the cheapest."""
    least = min(contender.seconds for contender in contenders)
    return next(contender for contender in contenders if contender.seconds <= (1 + SAME_COST) * least)


def _test_covariance(paired: Sequence[Sequence[Row]], metric: Metric) -> NDArray[np.float64]:
    """Return the covariance (strategies, strategies) of mean scores over draws of the test set."""
    scores = [[row.example_scores for row in rows if row.example_scores is not None] for rows in paired]
    shapes = {one.shape for repeats in scores for one in repeats}
    if len(shapes) == 1 and [*map(len, scores)] == [*map(len, paired)]:
        return example_covariance(np.array([np.array(repeats, dtype=float).mean(axis=0) for repeats in scores]).T)
    # The study's folder is not here. Without the score of each example, two strategies' count as independent, and
    # those of a strategy's repeats as the same, which makes intervals and verdicts more careful, never less.
    errors = [[row.test_se for row in rows] for rows in paired]
    if all(error is not None for rows in errors for error in rows):
        return np.diag([np.square(np.array(rows, dtype=float)).mean() for rows in errors])
    examples = min(row.test_examples or 1 for rows in paired for row in rows)
    means = np.array([np.mean([row.test_score(metric) for row in rows]) for rows in paired])
    return np.diag(np.maximum(means * (1 - means), 0.0) / examples)
