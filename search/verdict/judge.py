"""Who wins at a size, and how sure that is: judged from confirm trials alone. numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.verdict.confirm import LEAST_CHAINS
from search.verdict.metric import MEASURES, Measure
from search.verdict.rows import Results, Row
from search.verdict.statistics import outcomes_covariance, weigh
from strategies import FreezingStrategy

SAME_COST = 0.1
"""Costs that differ by less count as the same: measured seconds do not tell them apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A finalist after its confirm trials: test score, its 90 % interval, P(best), and what a run costs.

    The score is the mean over chains, without the luck of having come out first. `seconds` are those of its fastest
    run: whatever else a machine has to do, and a cache that is still empty, only add to them.

    `score`, `low` and `high` are in the measure's own unit: an accuracy of 0 to 1, or a mean squared error. `chains`
    are those it has run: one that can't contend any more gets no more of them.
    """

    family: str
    strategy: FreezingStrategy
    explored: int
    score: float
    low: float
    high: float
    p_best: float
    seconds: float
    contends: bool
    chains: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer at one size. `contestants` are sorted by score, the leader first; `chains` are the most any has run.

    `recommended` is the cheapest to train of the contenders whose mean came within the margin of the leader's: that one
    may still be best is no reason to take it where it was seen to be worse (in replayed studies that cost a point).

    `failed` names families whose finalist failed in a chain, or has no finite score there: it can't be
    recommended, so it is not judged.
    """

    size: int
    chains: int
    contestants: tuple[Contestant, ...]
    winner: Contestant | None
    recommended: Contestant
    failed: tuple[str, ...] = ()
    measure: Measure = MEASURES["classification"]

    @property
    def contenders(self) -> tuple[Contestant, ...]:
        return tuple(c for c in self.contestants if c.contends)

    @property
    def ruled_out(self) -> tuple[Contestant, ...]:
        return tuple(c for c in self.contestants if not c.contends)

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if self.winner is not None:
            return f"{self.winner.family} wins (P = {self.winner.p_best:.2f})"
        if self.chains < LEAST_CHAINS:
            chains = "1 chain" if self.chains == 1 else f"{self.chains} chains"
            return f"no verdict: {chains}, and {LEAST_CHAINS} are the least that may rule anything out"
        if len(self.contestants) == 1:
            return f"{self.contestants[0].family} is the only one that was confirmed"
        if len(self.contenders) == 1:
            return f"no clear winner: {self.contenders[0].family} leads (P = {self.contenders[0].p_best:.2f})"
        return f"no clear winner: {', '.join(c.family for c in self.contenders)}"


def judge_all(results: Results) -> dict[int, Verdict]:
    """The verdict at every size that has one."""
    verdicts = {size: judge(results, size) for size in results.sizes}
    return {size: verdict for size, verdict in verdicts.items() if verdict is not None}


def judge(results: Results, size: int) -> Verdict | None:
    """The verdict at one size; None without chains, before its confirm trials have ended, or if all failed."""
    if results.spec.confirm.chains == 0 or not results.is_confirmed(size):
        return None
    measure, wanted, finalists = results.measure, results.wanted(size), results.finalists(size)
    runs: dict[int, list[Row]] = {row.number: [] for row in finalists}
    failed = set()
    for row in sorted(results.confirmed(size), key=lambda row: row.chain):
        if row.explored not in runs:  # it lost its play-off
            continue
        if row.has_score(measure):
            if row.chain == len(runs[row.explored]) + 1:
                runs[row.explored].append(row)
        elif (row.explored, row.chain) in wanted:
            failed.add(row.explored)
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
    contestants = [
        Contestant(
            family=rows[0].family,
            strategy=rows[0].strategy,
            explored=rows[0].explored or 0,
            score=float(score[i]),
            low=float(low[i]),
            high=float(high[i]),
            p_best=float(found.p_best[i]),
            seconds=min((row.seconds for row in rows if row.seconds is not None), default=0.0),
            contends=bool(found.contends[i]),
            chains=len(rows),
        )
        for i, rows in enumerate(paired)
    ]
    winner = None if found.winner is None else contestants[found.winner]
    order = np.argsort(-found.means, kind="stable")
    as_good = [contestants[i] for i in order if found.as_good[i]]
    contestants = [contestants[i] for i in order]
    return Verdict(
        size=size,
        chains=len(scores),
        contestants=tuple(contestants),
        winner=winner,
        # With too few chains nothing can be told, and the cheapest of everything would be no advice.
        recommended=contestants[0] if len(scores) < LEAST_CHAINS else _cheapest(as_good),
        failed=tuple(row.family for row in finalists if row.number in failed),
        measure=measure,
    )


def _cheapest(contenders: Sequence[Contestant]) -> Contestant:
    """The cheapest of them to train; of those that cost about as much, the one with the best score: the first."""
    least = min(contender.seconds for contender in contenders)
    return next(contender for contender in contenders if contender.seconds <= (1 + SAME_COST) * least)


def _test_covariance(paired: Sequence[Sequence[Row]]) -> NDArray[np.float64]:
    outcomes = [[row.outcome for row in rows if row.outcome is not None] for rows in paired]
    shapes = {outcome.shape for chains in outcomes for outcome in chains}
    if len(shapes) == 1 and [*map(len, outcomes)] == [*map(len, paired)]:
        return outcomes_covariance(np.array([np.array(chains, dtype=float).mean(axis=0) for chains in outcomes]).T)
    # The study's folder is not here. Without each example's outcome, those of two strategies count as independent,
    # and those of one strategy's chains as the same, which makes intervals and verdicts more careful, never less.
    errors = [[row.test_se for row in rows] for rows in paired]
    if all(error is not None for rows in errors for error in rows):
        return np.diag([np.square(np.array(rows, dtype=float)).mean() for rows in errors])
    examples = min(row.test_examples or 1 for rows in paired for row in rows)
    means = np.array([np.mean([row.test_accuracy or 0.0 for row in rows]) for rows in paired])
    return np.diag(means * (1 - means) / examples)
