"""Who wins at a size, and how sure that is: judged from confirm trials alone. numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.measure import MEASURES, Measure
from search.rows import Results, Row
from strategies import FreezingStrategy

LEAST_CHAINS = 5
"""With fewer chains nothing is ruled out: among identical strategies, 3 name a false winner one time in ten."""
RULED_OUT_BELOW = 0.05
CERTAIN = 0.95
INTERVAL = 0.90
DRAWS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A finalist after its confirm trials: mean test score, its 90 % interval, P(best), and what a run costs.

    `score`, `low` and `high` are in the measure's own unit: an accuracy of 0 to 1, or a mean squared error.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer at one size. `contestants` are sorted by score, the leader first.

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
            return f"no verdict: {self.chains} chains, and {LEAST_CHAINS} are the least that may rule anything out"
        if len(self.contenders) == 1:
            return f"no clear winner: {self.contenders[0].family} leads (P = {self.contenders[0].p_best:.2f})"
        return f"no clear winner: {', '.join(c.family for c in self.contenders)}"


def judge_all(results: Results) -> dict[int, Verdict]:
    """The verdict at every size that has one."""
    verdicts = {size: judge(results, size) for size in results.sizes}
    return {size: verdict for size, verdict in verdicts.items() if verdict is not None}


def judge(results: Results, size: int) -> Verdict | None:
    """The verdict at one size; None without chains, before every finalist has finished them, or if all failed."""
    if results.spec.confirm.chains == 0 or not results.is_confirmed(size):
        return None
    chains = range(1, results.spec.confirm.chains + 1)
    by_place = {(row.explored, row.chain): row for row in results.confirmed(size)}
    runs = {row.number: [by_place[row.number, chain] for chain in chains] for row in results.finalists(size)}
    measure = results.measure
    sound = {number: rows for number, rows in runs.items() if all(_has_score(row, measure) for row in rows)}
    failed = tuple(rows[0].family for number, rows in runs.items() if number not in sound)
    if not sound:
        return None
    paired = list(sound.values())
    scores = np.array([[getattr(row, measure.attribute) for row in rows] for rows in paired]).T
    means = scores.mean(axis=0)
    # Judged as more is better, and in the unit that the margin is in: the leader's score, where it is relative.
    unit = measure.sign * (means.min() or 1.0 if measure.relative else 1.0)
    draws = resample(scores / unit, _test_covariance(paired, scores) / unit**2, seed=size)
    p_best = probability_best(draws)
    contends = contending(means / unit, p_best, margin=results.spec.confirm.margin, chains=len(chains))
    ends = unit * np.quantile(draws, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2], axis=0)
    low, high = np.clip(np.sort(ends, axis=0), 0.0, measure.highest)
    contestants = [
        Contestant(
            family=rows[0].family,
            strategy=rows[0].strategy,
            explored=number,
            score=float(means[i]),
            low=float(low[i]),
            high=float(high[i]),
            p_best=float(p_best[i]),
            seconds=float(np.mean([row.seconds or 0.0 for row in rows])),
            contends=bool(contends[i]),
        )
        for i, (number, rows) in enumerate(sound.items())
    ]
    contestants.sort(key=lambda c: -measure.sign * c.score)
    contenders = [c for c in contestants if c.contends]
    only = contenders[0] if len(contenders) == 1 and len(contestants) > 1 else None
    return Verdict(
        size=size,
        chains=len(chains),
        contestants=tuple(contestants),
        winner=only if only is not None and only.p_best >= CERTAIN else None,
        # With too few chains nothing is ruled out, and the cheapest of everything would be no advice.
        recommended=contestants[0] if len(chains) < LEAST_CHAINS else min(contenders, key=lambda c: c.seconds),
        failed=failed,
        measure=measure,
    )


def resample(
    scores: NDArray[np.float64], test_covariance: NDArray[np.float64] | None, *, seed: int, draws: int = DRAWS
) -> NDArray[np.float64]:
    """Draw what the strategies' mean scores could be: (draws, strategies), paired over strategies.

    scores: (chains, strategies), more is better; test_covariance: (strategies, strategies), that of the mean scores
    over draws of the test set, or None to leave it out.

    Two things vary: which examples were labelled (the chain) and which are tested. Resampling 5-10 chains by
    bootstrap covers 77-85 % at a nominal 90 %, so chains are drawn from the multivariate t with (chains - 1)
    degrees of freedom that their covariance gives, which for each pair of strategies is the paired t-test.
    Test examples are many, and drawn from the normal. As in the pigeonhole bootstrap (Owen, 2007) the
    interaction counts twice, which errs towards caution.
    """
    rng = np.random.default_rng(seed)
    chains, strategies = scores.shape
    result = np.repeat(scores.mean(axis=0, keepdims=True), draws, axis=0)
    if chains > 1:
        freedom = chains - 1
        stretch = np.sqrt(freedom / rng.chisquare(freedom, size=(draws, 1)))
        result += stretch * _normal(np.cov(scores.T).reshape(strategies, strategies) / chains, draws, rng)
    if test_covariance is not None:
        result += _normal(test_covariance, draws, rng)
    return result


def probability_best(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each strategy's share of the draws (draws, strategies; more is better) in which it is best; ties are shared."""
    best = np.isclose(draws, draws.max(axis=1, keepdims=True), rtol=0, atol=1e-7)
    return np.asarray((best / best.sum(axis=1, keepdims=True)).mean(axis=0))


def contending(
    means: NDArray[np.float64], p_best: NDArray[np.float64], *, margin: float, chains: int
) -> NDArray[np.bool_]:
    """Who may still be best: P(best) of 5 % or more, or within the margin of practical equivalence of the leader."""
    if chains < LEAST_CHAINS:
        return np.ones(len(means), dtype=bool)
    return np.asarray((p_best >= RULED_OUT_BELOW) | (means.max() - means <= margin + 1e-9))


def outcomes_covariance(outcomes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The covariance of mean scores over draws of the test set, from each example's (examples, strategies)."""
    examples, strategies = outcomes.shape
    return np.asarray(np.cov(outcomes.T).reshape(strategies, strategies) / examples)


def _test_covariance(paired: Sequence[Sequence[Row]], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    outcomes = [[row.outcome for row in rows] for rows in paired]
    shapes = {None if outcome is None else outcome.shape for rows in outcomes for outcome in rows}
    if len(shapes) == 1 and None not in shapes:
        return outcomes_covariance(np.array(outcomes, dtype=float).mean(axis=1).T)
    # The study's folder is not here. Without each example's outcome, those of two strategies count as independent,
    # and those of one strategy's chains as the same, which makes intervals and verdicts more careful, never less.
    errors = [[row.test_se for row in rows] for rows in paired]
    if all(error is not None for rows in errors for error in rows):
        return np.diag(np.square(np.array(errors, dtype=float)).mean(axis=1))
    examples = min(row.test_examples or 1 for rows in paired for row in rows)
    means = scores.mean(axis=0)
    return np.diag(means * (1 - means) / examples)


def _has_score(row: Row, measure: Measure) -> bool:
    score = getattr(row, measure.attribute)
    return row.state == "COMPLETE" and score is not None and bool(np.isfinite(score))


def _normal(covariance: NDArray[np.float64], draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.asarray(rng.standard_normal((draws, len(values))) @ root.T)
