"""A whole study's pick, explored and confirmed, against the table's best, other searches and defaults."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import nan

import numpy as np
from rich.table import Table as Text

from search.verdict.judge import judge
from search.verdict.results import Results
from strategies import Family, FreezingStrategy
from tests.replay.samplers import ENGINES, SHARES, Engine, pick
from tests.replay.search import Replay, Tried
from tests.replay.table import Table

REPEATS = 5
OURS = ENGINES["baselines + TPE + PhasePruner"]
RIVALS = ("random", "TPE + Median", "TPE + Hyperband")
"""Other searches; of their trials the best in validation is taken, as `study.best_params` does."""
DEFAULTS = (Family.LINEAR_PROBING, Family.FULL_FINE_TUNING, Family.FREEZE_THEN_UNFREEZE)
"""Families whose baselines people take without a search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """One size of a study. Scores and regrets are in points of true test accuracy, costs in shares of a slice.

    regrets: (budgets, 2) after confirming, of the leader and of the recommended.
    explored: (budgets,) of the best in validation alone.
    costs: (budgets,) with those of confirming. rivals: (budgets,) by name, at these costs.
    At the largest budget: gains over each default; the leader's unbiased regret; and off (2,), the verdict's scores of
    leader and recommended less those on unused repeats.
    """

    size: int
    regrets: np.ndarray
    explored: np.ndarray
    costs: np.ndarray
    rivals: dict[str, np.ndarray]
    gains: dict[Family, float]
    unbiased_regret: float
    off: np.ndarray


def confirmed(replay: Replay, at: int, tried: Sequence[Tried], repeats: Sequence[int]) -> Results:
    """Return one size's results after this search, confirmed on those repeats of the table."""
    rows = [
        replace(
            replay.row(one.strategy, at, 0, number=number),
            value=one.value,
            state="PRUNED" if one.pruned else "COMPLETE",
        )
        for number, one in enumerate(tried)
    ]
    return replay.confirmed(replay.results(rows, repeats=len(repeats)), at, repeats)


def study(replay: Replay, at: int, dice: np.random.Generator, *, rivals: Sequence[str] = RIVALS) -> Pick:
    """Explore on one repeat to each budget, confirm on others, and judge; then the rivals, at the same seconds."""
    explores, *repeats = dice.permutation(replay.table.repeats).tolist()
    confirms, unused = repeats[:REPEATS], repeats[REPEATS:]
    budget, seed = replay.slice_cost(at), int(dice.integers(2**31))
    found = _search(OURS, replay, at, explores, seed=seed, seconds=SHARES[-1] * budget)
    regrets, costs = [], []
    for share in SHARES:
        tried = within(found, share * budget)
        results = confirmed(replay, at, tried, confirms)
        verdict = judge(results, replay.table.sizes[at])
        assert verdict is not None
        taken = (verdict.candidates[0], verdict.recommended)
        regrets.append([regret(replay, at, one.strategy) for one in taken])
        confirming = sum(one.seconds or 0.0 for one in results.rows if one.judged)
        costs.append((sum(one.seconds for one in tried) + confirming) / budget)
    others = {
        name: _search(ENGINES[name], replay, at, explores, seed=seed, seconds=costs[-1] * budget) for name in rivals
    }
    families = {baseline.family(replay.table.num_groups): baseline for baseline in reversed(replay.baselines)}
    return Pick(
        size=at,
        regrets=np.array(regrets),
        explored=np.array([_picked(replay, at, within(found, share * budget)) for share in SHARES]),
        costs=np.array(costs),
        rivals={
            name: np.array([_picked(replay, at, within(tried, cost * budget)) for cost in costs])
            for name, tried in others.items()
        },
        gains={one: regret(replay, at, families[one]) - regrets[-1][0] for one in DEFAULTS if one in families},
        unbiased_regret=unbiased_regret(replay, at, taken[0].strategy, repeats=unused),
        off=np.array([100 * c.score - _score(replay, at, c.strategy, unused) for c in taken]),
    )


def _search(engine: Engine, replay: Replay, at: int, repeat: int, *, seed: int, seconds: float) -> list[Tried]:
    sampler, pruner = engine.sampler(seed), engine.pruner(replay)
    return replay.search(size=at, repeat=repeat, sampler=sampler, pruner=pruner, first=engine.first, seconds=seconds)


def regret(replay: Replay, at: int, strategy: FreezingStrategy) -> float:
    """Return a strategy's gap to the table's best, in points of the mean over repeats."""
    truth = replay.truth[: replay.searched, at]
    return 100 * float(truth.max() - replay.truth[replay.places[strategy], at])


def _picked(replay: Replay, at: int, tried: Sequence[Tried]) -> float:
    place = pick(tried)
    if place is None:  # nothing has run to its end yet: what a random strategy lacks
        truth = replay.truth[: replay.searched, at]
        return 100 * float(truth.max() - truth.mean())
    return regret(replay, at, replay.strategies[place])


def _score(replay: Replay, at: int, strategy: FreezingStrategy, repeats: Sequence[int]) -> float:
    scores = replay.table.score[replay.places[strategy], at][list(repeats)]
    return 100 * float(scores.mean()) if len(scores) else nan


def within(found: Sequence[Tried], seconds: float) -> Sequence[Tried]:
    """Return a search's trials that had ended after so many seconds; at least one."""
    spent = np.cumsum([one.seconds for one in found])
    return found[: max(1, int(np.searchsorted(spent, seconds, side="right")))]


def report(tables: Sequence[Table], *, studies: int) -> Iterator[Text | str]:
    """Regret against cost by size, one table a task; then the gain over defaults, the best of them by other tasks."""
    found: dict[str, list[Pick]] = {}
    for table in tables:
        if table.repeats <= REPEATS:
            yield f"{table.task}: {table.repeats} repeats, and it takes {REPEATS + 1} to explore and confirm."
            continue
        replay, dice = Replay(table), np.random.default_rng(0)
        found[table.task] = [study(replay, at, dice) for _ in range(studies) for at in range(len(table.sizes))]
        yield _regrets(table, found[table.task])
        yield _rivals(table, found[table.task])
    if found:
        yield _gains(found)


def _regrets(table: Table, picks: Sequence[Pick]) -> Text:
    text = Text(
        "labels", *(f"{share:g} of a slice" for share in SHARES), "unbiased", "predicted less true",
        title=f"{table.task}: {len(picks)} studies, of {table.repeats} repeats",
    )  # fmt: skip
    for at, labels in enumerate(table.sizes):
        ours = [one for one in picks if one.size == at]
        columns = zip(
            np.mean([one.explored for one in ours], axis=0),
            np.mean([one.regrets for one in ours], axis=0),
            np.mean([one.costs for one in ours], axis=0),
            strict=True,
        )
        cells = (f"{a:.2f} -> {b:.2f}, {c:.2f} at {cost:.2f}" for a, (b, c), cost in columns)
        off = np.mean([one.off for one in ours], axis=0)
        unbiased = np.mean([one.unbiased_regret for one in ours])
        text.add_row(str(labels), *cells, f"{unbiased:+.2f}", ", ".join(f"{each:+.2f}" for each in off))
    text.caption = (
        "regret in points: best in validation -> confirmed leader, recommended; at the cost with "
        "confirming. Last, at the largest budget, on repeats that the study did not use: the leader's "
        "unbiased regret, and by what the scores of leader and recommended are too high"
    )
    return text


def unbiased_regret(replay: Replay, at: int, strategy: FreezingStrategy, *, repeats: Sequence[int]) -> float:
    """Return the mean regret in points: on each repeat, against the best by the others.

    The best of many means over few repeats is higher than the truth (winner's curse), so every regret is too large.
    Here the best is chosen on other repeats than it is measured on. It may not be the true one, so this is too small.
    """
    if len(repeats) < 2:
        return nan
    scores = 100 * replay.table.score[: replay.searched, at][:, list(repeats)].astype(float)
    without = scores.sum(axis=1, keepdims=True) - scores
    best = scores[without.argmax(axis=0), range(len(repeats))]
    return float((best - scores[replay.places[strategy]]).mean())


def _rivals(table: Table, picks: Sequence[Pick]) -> Text:
    text = Text("labels", *RIVALS, title=f"{table.task}: what their pick lacks of our leader, at equal seconds")
    for at, labels in enumerate(table.sizes):
        ours = [one for one in picks if one.size == at]
        gaps = {name: np.mean([one.rivals[name] - one.regrets[:, 0] for one in ours], axis=0) for name in RIVALS}
        text.add_row(str(labels), *(" ".join(f"{gap:+.1f}" for gap in gaps[name]) for name in RIVALS))
    text.caption = "points, where we explored for " + ", ".join(f"{share:g}" for share in SHARES) + " of a slice"
    return text


def _gains(found: dict[str, list[Pick]]) -> Text:
    text = Text(
        "task", *(f"over {family}" for family in DEFAULTS), "over the default that is best elsewhere", "within 1 point"
    )
    means = {
        task: {family: np.mean([one.gains[family] for one in picks if family in one.gains]) for family in DEFAULTS}
        for task, picks in found.items()
    }
    within: dict[str, list[float]] = defaultdict(list)
    for task, picks in found.items():
        elsewhere = [means[other] for other in found if other != task] or [means[task]]
        best = min(DEFAULTS, key=lambda family: np.mean([one[family] for one in elsewhere]))
        within[task] = [one.gains[best] for one in picks]
        cells = (f"{means[task][family]:+.1f}" for family in DEFAULTS)
        share = f"{100 * np.mean(np.array(within[task]) >= -1):.0f} %"
        text.add_row(task, *cells, f"{np.mean(within[task]):+.1f} ({best})", share)
    every = np.concatenate([*map(np.array, within.values())])
    cells = (f"{np.mean([one.gains[family] for picks in found.values() for one in picks]):+.1f}" for family in DEFAULTS)
    text.add_row("all", *cells, f"{every.mean():+.1f}", f"{100 * np.mean(every >= -1):.0f} %")
    text.title = "gain of the confirmed leader in points"
    return text
