"""The verdict at a size: the winner and its certainty, from confirm trials alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from search.verdict.cost import gflops
from search.verdict.metric import Metric
from search.verdict.race import LEAST_REPEATS
from search.verdict.results import Results
from search.verdict.rows import Row
from search.verdict.runs import compare_runs, judged_runs, knows_examples
from search.verdict.statistics import Comparison, sharing
from search.verdict.trivial import Trivial
from strategies import FreezingStrategy

SAME_COST = 0.1
"""Costs that differ by a smaller share count as the same."""
NORMAL_90 = 1.645
"""Half of a 90 % interval, in standard deviations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A candidate after its confirm trials.

    score: the mean test score over its repeats, corrected for the winner's curse, in the metric's own unit.
    low, high: its 90 % interval.
    p_best: the probability that it is the best.
    p_within_margin: the probability that it is within the margin of the best.
    expected_loss: its mean distance to the best, in the metric's own unit.
    gflops: billions of operations that a run takes; None where they are unknown.
    seconds: its fastest run. Other work on the machine and a cache that is still empty only add to that.
    mean: of its runs, uncorrected.
    contends: it may still be best, or its mean is within the margin of the leader's.
    is_near: it contends, and its P(within the margin) is near the highest.
    repeats: how many it has run; one that can't win any more gets no more.
    failed_to_train: runs far below its best one, see `search.verdict.runs.failed_to_train`.
    """

    family: str
    strategy: FreezingStrategy
    baseline: bool
    score: float
    low: float
    high: float
    p_best: float
    seconds: float
    p_within_margin: float
    expected_loss: float
    mean: float
    contends: bool
    is_near: bool
    repeats: int
    failed_to_train: int = 0
    gflops: float | None = None

    @property
    def cost(self) -> float:
        """Its operations where they are known, else its seconds."""
        return self.seconds if self.gflops is None else self.gflops


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer at one size.

    repeats: the most that any candidate has run.
    candidates: the best of each family, the leader first, with the family's P(best).
    every_candidate: all of them, the leader first.
    winner: the only family that contends, if it is certain to be better than each candidate of the others. It beats
        the trivial predictor.
    recommended: the cheapest contender whose P(within the margin) is near the highest. Those that beat the trivial
        predictor come first.
    trivial: the best constant answer; None where its score is not stored.
    near_optimal: the contenders' strategies, and those that the search can't tell from its best one.
    failed: families whose candidate failed on a repeat, or has no finite score there; they are not judged.
    over_examples: intervals hold over draws of the test examples, too.
    extension: of the study as of when it was judged; labels: those that its repeats drew from, 0 if unknown.
    """

    size: int
    repeats: int
    candidates: tuple[Candidate, ...]
    every_candidate: tuple[Candidate, ...]
    winner: Candidate | None
    recommended: Candidate
    near_optimal: tuple[FreezingStrategy, ...]
    failed: tuple[str, ...] = ()
    trivial: Trivial | None = None
    metric: Metric
    over_examples: bool = True
    extension: int = 0
    labels: int = 0

    @property
    def contenders(self) -> tuple[Candidate, ...]:
        return tuple(c for c in self.candidates if c.contends)

    @property
    def ruled_out(self) -> tuple[Candidate, ...]:
        return tuple(c for c in self.candidates if not c.contends)

    @property
    def is_trivial(self) -> bool:
        """The recommended candidate does not clearly beat the best constant answer."""
        return not _beats(self.recommended, self.trivial, self.metric)

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if self.repeats < LEAST_REPEATS:
            repeats = "1 repeat" if self.repeats == 1 else f"{self.repeats} repeats"
            return f"no verdict: {repeats}, and it takes {LEAST_REPEATS} to rule anything out"
        if self.trivial is not None and self.is_trivial:
            best, metric = self.candidates[0], self.metric
            unlike = any(_beats(c, self.trivial, metric) for c in self.every_candidate)
            clearly = "clearly " if self.trivial.is_below(best.score) else ""
            return (
                f"nothing {'as good as the best ' if unlike else ''}{clearly}beats {self.trivial.text}: "
                f"the best, {best.family}, has {metric.interval(best.score, best.low, best.high)}"
            )
        if self.winner is not None:
            return f"{self.winner.family} wins (P = {self.winner.p_best:.2f})"
        if len(self.candidates) == 1:
            return f"{self.candidates[0].family} is the only one that was confirmed"
        if len(self.contenders) == 1:
            return f"no clear winner: {self.contenders[0].family} leads (P = {self.contenders[0].p_best:.2f})"
        return f"no clear winner: {', '.join(c.family for c in self.contenders)} are as good as the best"


def judge_all(results: Results) -> dict[int, Verdict]:
    """Return the newest verdict at every size that has one."""
    sizes = sorted({size for view in results.views for size in view.sizes})
    return {size: verdicts[0] for size in sizes if (verdicts := [*verdicts_at(results, size)])}


def verdicts_at(results: Results, size: int) -> Iterator[Verdict]:
    """Return the verdicts at one size, one for each extension of the labels, newest first."""
    return (verdict for view in results.views if (verdict := judge(view, size)) is not None)


def earlier(results: Results, verdict: Verdict) -> list[Verdict]:
    """Return the verdicts at that size from before labels were added, newest first."""
    return [one for one in verdicts_at(results, verdict.size) if one.extension < verdict.extension]


def judge(results: Results, size: int) -> Verdict | None:
    """Return the verdict at one size.

    None without repeats, before the size's confirm trials have ended, or if all candidates failed.
    """
    if results.spec.confirm.repeats == 0 or not results.is_confirmed(size):
        return None
    metric, runs = results.metric, judged_runs(results, size)
    paired = [rows for rows in runs.values() if rows is not None]
    if not paired:
        return None
    trivial = Trivial.of(max(paired, key=len), metric=metric, kind=results.kind)
    found, failed, unit = compare_runs(
        paired,
        metric=metric,
        trivial=trivial,
        margin=results.spec.confirm.margin,
        seed=size,
        sharing=sharing(size, labels=results.labels, crossed=results.cross_validated) if results.labels else 0.0,
        crossed=results.cross_validated,
    )
    repeats = max(map(len, paired))
    every = _candidates(results, paired, found, unit, failed)
    families = _by_family(every)
    # Too few repeats rule nothing out, and the cheapest of everything would be no advice.
    recommended = every[0] if repeats < LEAST_REPEATS else _recommended(every, trivial, metric)
    winner = families[0] if found.leader_wins([rows[0].family for rows in paired]) else None
    if winner is not None and not all(_beats(c, trivial, metric) for c in (recommended, winner)):
        winner = None
    return Verdict(
        size=size,
        repeats=repeats,
        candidates=families,
        every_candidate=every,
        winner=winner,
        recommended=recommended,
        near_optimal=near_optimal(results, size, every),
        failed=tuple(dict.fromkeys(str(s.family(results.num_groups)) for s, rows in runs.items() if rows is None)),
        trivial=trivial,
        metric=metric,
        over_examples=knows_examples(paired, metric),
        extension=results.extension,
        labels=results.labels,
    )


def _candidates(
    results: Results, runs: Sequence[Sequence[Row]], found: Comparison, unit: float, failed: NDArray[np.int64]
) -> tuple[Candidate, ...]:
    """Return the candidates with their scores in the metric's own unit, the leader first."""
    metric = results.metric
    score, low, high = (
        np.clip(unit * one, metric.lowest, metric.highest) for one in (found.scores, found.low, found.high)
    )
    low, high = np.minimum(low, high), np.maximum(low, high)
    return tuple(
        Candidate(
            family=runs[i][0].family, strategy=runs[i][0].strategy, baseline=runs[i][0].baseline,
            score=float(score[i]), low=float(low[i]), high=float(high[i]), p_best=float(found.p_best[i]),
            p_within_margin=float(found.p_within_margin[i]), expected_loss=abs(unit) * float(found.expected_loss[i]),
            seconds=min((row.seconds for row in runs[i] if row.seconds is not None), default=0.0),
            mean=float(np.mean([row.test_score(metric) for row in runs[i]])),
            contends=bool(found.contends[i]), is_near=bool(found.is_near[i]), repeats=len(runs[i]),
            failed_to_train=int(failed[i]),
            gflops=gflops(results, runs[i][0].strategy, runs[i][0].size),
        )
        for i in found.order
    )  # fmt: skip


def _by_family(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return each family's best candidate, with the family's P(best): the sum of its candidates'."""
    families: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        families.setdefault(candidate.family, []).append(candidate)
    return tuple(
        replace(own[0], p_best=min(sum(c.p_best for c in own), 1.0), contends=any(c.contends for c in own))
        for own in families.values()
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
    values: dict[FreezingStrategy, dict[int, float]] = {candidate.strategy: {} for candidate in candidates}
    for row in results.confirmed(size):
        if row.strategy in values and row.final_value is not None:
            values[row.strategy][row.repeat] = row.final_value
    spreads = []
    for one, other in combinations(values.values(), 2):
        shared = one.keys() & other.keys()
        if len(shared) > 1:
            spreads.append(float(np.std([one[repeat] - other[repeat] for repeat in shared], ddof=1)))
    return float(np.median(spreads)) if spreads else 0.0


def _beats(candidate: Candidate, trivial: Trivial | None, metric: Metric) -> bool:
    """Check that the whole interval beats the best constant answer, if that is known."""
    return trivial is None or trivial.is_below(candidate.low if metric.higher_is_better else candidate.high)


def _recommended(candidates: Sequence[Candidate], trivial: Trivial | None, metric: Metric) -> Candidate:
    """Return the cheapest of those most likely to be within the margin.

    Those that beat the best constant answer come first.
    """
    contenders = [c for c in candidates if c.contends]
    beating = [c for c in contenders if _beats(c, trivial, metric)]
    near = [c for c in contenders if c.is_near]
    return _cheapest([c for c in near if c in beating] or beating or near)


def _cheapest(contenders: Sequence[Candidate]) -> Candidate:
    """Return the first, so the best, that costs about as little as the cheapest."""
    costs = [contender.cost for contender in contenders]
    return next(c for c, cost in zip(contenders, costs, strict=True) if cost <= (1 + SAME_COST) * min(costs))
