"""What a whole study picks, explored and confirmed, against the table's best and against what everybody would take."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.table import Table as Text

from search.home import Home
from search.rows import Results
from search.verdict import judge
from strategies import Family, FreezingStrategy
from tests.replay.samplers import ENGINES, SHARES
from tests.replay.search import Replay, Tried
from tests.replay.table import Table

CHAINS = 5
OURS = ENGINES["anchors + TPE + PhasePruner"]
DEFAULTS = (Family.LINEAR_PROBING, Family.FULL_FINE_TUNING, Family.FREEZE_THEN_UNFREEZE)
"""What people take without a search: the anchors of these families."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """One size of a study. Scores and regrets are in points of true test accuracy, costs in shares of a slice.

    regrets: (budgets, 2) of the leader and of the recommended, after confirming; explored: (budgets,) of the best in
    validation alone. costs: (budgets,) with what confirming cost. gains: over each default, at the largest budget.
    """

    size: int
    regrets: np.ndarray
    explored: np.ndarray
    costs: np.ndarray
    gains: dict[Family, float]


def confirmed(replay: Replay, at: int, tried: Sequence[Tried], chains: Sequence[int]) -> Results:
    """The results of one size after this search: its finalists run on those chains of the table."""
    whole = [replay.row(one.strategy, at, 0, number=number) for number, one in enumerate(tried)]
    whole = [
        replace(one, value=trial.value, state="PRUNED" if trial.pruned else "COMPLETE")
        for one, trial in zip(whole, tried, strict=True)
    ]
    spec = replay.spec.changed(search={"trials": len(whole)}, confirm={"chains": len(chains)})
    home = Home.of(replay.table.task, out=Path("studies"), storage=None)
    results = Results(home=home, spec=spec, num_groups=replay.table.num_groups, rows=tuple(whole))
    again = [
        replace(
            replay.row(tried[finalist.number].strategy, at, chain, number=len(whole) + order, test=True),
            explored=finalist.number,
            chain=order,
        )
        for finalist in results.finalists(replay.table.sizes[at])
        for order, chain in enumerate(chains, start=1)
    ]
    return replace(results, rows=(*whole, *again))


def pick(replay: Replay, at: int, dice: np.random.Generator) -> Pick:
    """Explore on one chain to each budget, confirm on others, and judge."""
    explores, *confirms = dice.permutation(replay.table.chains)[: CHAINS + 1].tolist()
    budget = replay.slice_cost(at)
    found = replay.search(
        size=at,
        chain=explores,
        sampler=OURS.sampler(int(dice.integers(2**31))),
        pruner=OURS.pruner(replay),
        seconds=SHARES[-1] * budget,
    )
    spent = np.cumsum([one.seconds for one in found])
    best = 100 * float(replay.truth[: replay.searched, at].max())

    def truth(strategy: FreezingStrategy) -> float:
        return 100 * float(replay.truth[replay.places[strategy], at])

    regrets, explored, costs = [], [], []
    for share in SHARES:
        tried = found[: max(1, int(np.searchsorted(spent, share * budget, side="right")))]
        results = confirmed(replay, at, tried, confirms)
        verdict = judge(results, replay.table.sizes[at])
        assert verdict is not None
        chosen = (verdict.contestants[0].strategy, verdict.recommended.strategy)
        regrets.append([best - truth(strategy) for strategy in chosen])
        lowest = min((one for one in tried if not one.pruned), key=lambda one: one.value)
        explored.append(best - truth(replay.strategies[lowest.strategy]))
        confirming = sum(one.seconds or 0.0 for one in results.rows if one.confirms)
        costs.append((spent[len(tried) - 1] + confirming) / budget)
    families = {anchor.family(replay.table.num_groups): anchor for anchor in reversed(replay.anchors)}
    gains = {family: best - regrets[-1][0] - truth(families[family]) for family in DEFAULTS if family in families}
    return Pick(size=at, regrets=np.array(regrets), explored=np.array(explored), costs=np.array(costs), gains=gains)


def report(tables: Sequence[Table], *, studies: int) -> Iterator[Text | str]:
    """Regret against cost by size, one table a task; then the gain over defaults, the best of them by other tasks."""
    found: dict[str, list[Pick]] = {}
    for table in tables:
        if table.chains <= CHAINS:
            yield f"{table.task}: {table.chains} chains, and it takes {CHAINS + 1} to explore and confirm."
            continue
        replay, dice = Replay(table), np.random.default_rng(0)
        found[table.task] = [pick(replay, at, dice) for _ in range(studies) for at in range(len(table.sizes))]
        yield _regrets(table, found[table.task])
    if found:
        yield _gains(found)


def _regrets(table: Table, picks: Sequence[Pick]) -> Text:
    text = Text("labels", *(f"{share:g} of a slice" for share in SHARES), title=f"{table.task}: {len(picks)} studies")
    for at, labels in enumerate(table.sizes):
        ours = [one for one in picks if one.size == at]
        columns = zip(
            np.mean([one.explored for one in ours], axis=0),
            np.mean([one.regrets for one in ours], axis=0),
            np.mean([one.costs for one in ours], axis=0),
            strict=True,
        )
        text.add_row(str(labels), *(f"{a:.2f} -> {b:.2f}, {c:.2f} at {cost:.2f}" for a, (b, c), cost in columns))
    text.caption = "regret in points: best in validation -> confirmed leader, recommended; at what cost with confirming"
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
