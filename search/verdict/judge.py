"""Who wins at a size, and how sure that is: judged from confirm trials alone. numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.verdict.confirm import LEAST_REPEATS
from search.verdict.metric import METRICS, Metric
from search.verdict.rows import Results, Row
from search.verdict.statistics import example_covariance, weigh
from strategies import FreezingStrategy

SAME_COST = 0.1
"""Costs that differ by less count as the same: measured seconds do not tell them apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A candidate after its confirm trials: test score, its 90 % interval, P(best), and what a run costs.

    The score is the mean over repeats, without the luck of having come out first. `seconds` are those of its fastest
    run: whatever else a machine has to do, and a cache that is still empty, only add to them.

    `score`, `low` and `high` are in the measure's own unit: an accuracy of 0 to 1, or a mean squared error. `repeats`
    are those it has run: one that can't contend any more gets no more of them.
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
    """The answer at one size. `candidates` are sorted by score, the leader first; `repeats` are the most any has run.

    `recommended` is the cheapest to train of the contenders whose mean came within the margin of the leader's: that one
    may still be best is no reason to take it where it was seen to be worse (in replayed studies that cost a point).

    `failed` names families whose candidate failed in a repeat, or has no finite score there: it can't be
    recommended, so it is not judged.
    """

    size: int
    repeats: int
    candidates: tuple[Candidate, ...]
    winner: Candidate | None
    recommended: Candidate
    failed: tuple[str, ...] = ()
    measure: Metric = METRICS["classification"]

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
            return f"no verdict: {repeats}, and {LEAST_REPEATS} are the least that may rule anything out"
        if len(self.candidates) == 1:
            return f"{self.candidates[0].family} is the only one that was confirmed"
        if len(self.contenders) == 1:
            return f"no clear winner: {self.contenders[0].family} leads (P = {self.contenders[0].p_best:.2f})"
        return f"no clear winner: {', '.join(c.family for c in self.contenders)}"


def judge_all(results: Results) -> dict[int, Verdict]:
    """The verdict at every size that has one."""
    verdicts = {size: judge(results, size) for size in results.sizes}
    return {size: verdict for size, verdict in verdicts.items() if verdict is not None}


def judge(results: Results, size: int) -> Verdict | None:
    """The verdict at one size; None without repeats, before its confirm trials have ended, or if all failed."""
    if results.spec.confirm.repeats == 0 or not results.is_confirmed(size):
        return None
    measure, wanted, sources = results.measure, results.wanted(size), results.candidates(size)
    runs: dict[int, list[Row]] = {row.number: [] for row in sources}
    failed = set()
    for row in sorted(results.confirmed(size), key=lambda row: row.repeat):
        if row.source_trial not in runs:  # it lost its play-off
            continue
        if row.has_score(measure):
            if row.repeat == len(runs[row.source_trial]) + 1:
                runs[row.source_trial].append(row)
        elif (row.source_trial, row.repeat) in wanted:
            failed.add(row.source_trial)
    paired = [rows for number, rows in runs.items() if number not in failed]
    if not paired:
        return None
    scores = np.full((max(map(len, paired)), len(paired)), np.nan)
    for place, rows in enumerate(paired):
        scores[: len(rows), place] = [getattr(row, measure.attribute) for row in rows]
    # Judged as more is better, and in the unit that the margin is in: the leader's score, where it is relative.
    unit = measure.sign * (np.nanmean(scores, axis=0).min() or 1.0 if measure.relative else 1.0)
    found = weigh(scores / unit, _test_covariance(paired) / unit**2, margin=results.spec.confirm.margin, seed=size)
    score, low, high = (np.clip(unit * one, 0.0, measure.highest) for one in (found.scores, found.low, found.high))
    low, high = np.minimum(low, high), np.maximum(low, high)
    candidates = [
        Candidate(
            family=rows[0].family,
            strategy=rows[0].strategy,
            source_trial=rows[0].source_trial or 0,
            score=float(score[i]),
            low=float(low[i]),
            high=float(high[i]),
            p_best=float(found.p_best[i]),
            seconds=min((row.seconds for row in rows if row.seconds is not None), default=0.0),
            contends=bool(found.contends[i]),
            repeats=len(rows),
        )
        for i, rows in enumerate(paired)
    ]
    winner = None if found.winner is None else candidates[found.winner]
    order = np.argsort(-found.means, kind="stable")
    as_good = [candidates[i] for i in order if found.as_good[i]]
    candidates = [candidates[i] for i in order]
    return Verdict(
        size=size,
        repeats=len(scores),
        candidates=tuple(candidates),
        winner=winner,
        # With too few repeats nothing can be told, and the cheapest of everything would be no advice.
        recommended=candidates[0] if len(scores) < LEAST_REPEATS else _cheapest(as_good),
        failed=tuple(row.family for row in sources if row.number in failed),
        measure=measure,
    )


def _cheapest(contenders: Sequence[Candidate]) -> Candidate:
    """The cheapest of them to train; of those that cost about as much, the one with the best score: the first."""
    least = min(contender.seconds for contender in contenders)
    return next(contender for contender in contenders if contender.seconds <= (1 + SAME_COST) * least)


def _test_covariance(paired: Sequence[Sequence[Row]]) -> NDArray[np.float64]:
    outcomes = [[row.example_scores for row in rows if row.example_scores is not None] for rows in paired]
    shapes = {outcome.shape for repeats in outcomes for outcome in repeats}
    if len(shapes) == 1 and [*map(len, outcomes)] == [*map(len, paired)]:
        return example_covariance(np.array([np.array(repeats, dtype=float).mean(axis=0) for repeats in outcomes]).T)
    # The study's folder is not here. Without each example's outcome, those of two strategies count as independent,
    # and those of one strategy's repeats as the same, which makes intervals and verdicts more careful, never less.
    errors = [[row.test_se for row in rows] for rows in paired]
    if all(error is not None for rows in errors for error in rows):
        return np.diag([np.square(np.array(rows, dtype=float)).mean() for rows in errors])
    examples = min(row.test_examples or 1 for rows in paired for row in rows)
    means = np.array([np.mean([row.test_accuracy or 0.0 for row in rows]) for rows in paired])
    return np.diag(means * (1 - means) / examples)
