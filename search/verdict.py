"""Who wins at a size, and how sure that is: judged from confirm trials alone. numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.confirm import LEAST_CHAINS
from search.measure import MEASURES, Measure
from search.rows import Results, Row
from strategies import FreezingStrategy

RULED_OUT_BELOW = 0.05
CERTAIN = 0.975
"""Of two that are alike either may lead by luck: at 0.95 one comparison in ten would name a false winner."""
INTERVAL = 0.90
DRAWS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A finalist after its confirm trials: mean test score, its 90 % interval, P(best), and what a run costs.

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
    """The verdict at one size; None without chains, before its confirm trials have ended, or if all failed."""
    if results.spec.confirm.chains == 0 or not results.is_confirmed(size):
        return None
    measure, wanted, finalists = results.measure, results.wanted(size), results.finalists(size)
    runs: dict[int, list[Row]] = {row.number: [] for row in finalists}
    failed = set()
    for row in sorted(results.confirmed(size), key=lambda row: row.chain):
        assert row.explored is not None
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
    found = weigh(
        scores / unit, _test_covariance(paired) / unit**2, margin=results.spec.confirm.margin, seed=size
    )
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
            seconds=float(np.mean([row.seconds or 0.0 for row in rows])),
            contends=bool(found.contends[i]),
            chains=len(rows),
        )
        for i, rows in enumerate(paired)
    ]
    winner = None if found.winner is None else contestants[found.winner]
    contestants = [contestants[i] for i in np.argsort(-found.means, kind="stable")]
    return Verdict(
        size=size,
        chains=len(scores),
        contestants=tuple(contestants),
        winner=winner,
        # With too few chains nothing is ruled out, and the cheapest of everything would be no advice.
        recommended=contestants[0] if len(scores) < LEAST_CHAINS else min((c for c in contestants if c.contends), key=lambda c: c.seconds),
        failed=tuple(row.family for row in finalists if row.number in failed),
        measure=measure,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weighed:
    """What the chains say of each strategy (strategies,): more is better, in the unit of the margin.

    `means` are as they were observed, `scores` without the leader's luck, and so are `low` and `high`.
    """

    means: NDArray[np.float64]
    scores: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p_best: NDArray[np.float64]
    contends: NDArray[np.bool_]

    @property
    def winner(self) -> int | None:
        """The only contender of several, if it is certain to be the best."""
        only = self.contends.sum() == 1 < len(self.contends) and self.p_best[self.contends][0] >= CERTAIN
        return int(self.contends.argmax()) if only else None


def weigh(
    scores: NDArray[np.float64], test_covariance: NDArray[np.float64], *, margin: float, seed: int, draws: int = DRAWS
) -> Weighed:
    """Weigh strategies by their scores (chains, strategies); one that was closed has NaN from there on.

    Those with all chains are compared on all. A closed one is compared with their leader on the chains that both have
    run, and its score is the leader's plus their mean difference there: its own, but for the luck of those chains.

    Who leads is lucky too: its mean is too high by what the leader of a draw is above its own mean, on average (the
    parametric bootstrap's estimate of bias; Efron & Tibshirani, 1993). That is taken off, and nobody is above it then.
    """
    lengths = np.isfinite(scores).sum(axis=0)
    whole = np.flatnonzero(lengths == len(scores))
    drawn = np.empty((draws, len(lengths)))
    drawn[:, whole] = resample(scores[:, whole], test_covariance[np.ix_(whole, whole)], seed=seed, draws=draws)
    own, means = drawn.copy(), scores.mean(axis=0)
    leader = whole[means[whole].argmax()]
    for other in np.flatnonzero(lengths < len(scores)):
        pair = [leader, other]
        shared = scores[: lengths[other], pair]
        both = resample(shared, test_covariance[np.ix_(pair, pair)], seed=[seed, other], draws=draws)
        luck = means[leader] - shared[:, 0].mean()
        means[other], own[:, other] = shared[:, 1].mean() + luck, both[:, 1] + luck
        drawn[:, other] = drawn[:, leader] + both[:, 1] - both[:, 0]
    p_best = probability_best(drawn)
    optimism = float((drawn.max(axis=1) - means[drawn.argmax(axis=1)]).mean())
    mended = np.minimum(means, means.max() - max(optimism, 0.0))
    low, high = np.quantile(own, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2], axis=0) + mended - means
    contends = contending(means, p_best, margin=margin, chains=len(scores))
    return Weighed(means=means, scores=mended, low=low, high=high, p_best=p_best, contends=contends)


def resample(
    scores: NDArray[np.float64], test_covariance: NDArray[np.float64] | None, *, seed: int | list[int], draws: int = DRAWS
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


def _test_covariance(paired: Sequence[Sequence[Row]]) -> NDArray[np.float64]:
    outcomes = [[row.outcome for row in rows] for rows in paired]
    shapes = {None if outcome is None else outcome.shape for rows in outcomes for outcome in rows}
    if len(shapes) == 1 and None not in shapes:
        return outcomes_covariance(np.array([np.mean(rows, axis=0) for rows in outcomes], dtype=float).T)
    # The study's folder is not here. Without each example's outcome, those of two strategies count as independent,
    # and those of one strategy's chains as the same, which makes intervals and verdicts more careful, never less.
    errors = [[row.test_se for row in rows] for rows in paired]
    if all(error is not None for rows in errors for error in rows):
        return np.diag([np.square(np.array(rows, dtype=float)).mean() for rows in errors])
    examples = min(row.test_examples or 1 for rows in paired for row in rows)
    means = np.array([np.mean([row.test_accuracy or 0.0 for row in rows]) for rows in paired])
    return np.diag(means * (1 - means) / examples)


def _normal(covariance: NDArray[np.float64], draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.asarray(rng.standard_normal((draws, len(values))) @ root.T)
