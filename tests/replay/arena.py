"""Whole designs of a study against each other: what they choose, and what it costs.

Half of a table's draws are for the study, the other half for the truth. Frostline's portfolio is made without the task.
Regret is against the strategy that is best by all other draws than the one that measures it, so that neither gains by
chance. A run equivalent is the time of a full fine-tuning run.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from rich.table import Table as Text

from search.spec.tables import Confirm, Search
from search.verdict.judge import judge
from strategies import FreezingStrategy
from tests.replay.grid import SMALL
from tests.replay.portfolio import chosen
from tests.replay.samplers import ENGINES, Engine, pick
from tests.replay.search import Replay, Tried
from tests.replay.table import Table

Array = NDArray[np.float64]
RIVAL_TRIALS = 36
TRIALS, REPEATS = Search().trials, Confirm().repeats
LEAST_DRAWS = 4
"""A table with fewer is not played on: half of them can't explore and race."""
FEW = 200
"""Labels that train, below which a size of a small task counts as few."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """Places in the table that a study chose, one a size; its cost in runs and run equivalents."""

    chosen: NDArray[np.int64]
    runs: Array
    cost: Array


class Arena:
    """A task's table, with the portfolio of the others."""

    def __init__(self, table: Table, others: Sequence[Table]) -> None:
        self.table = table
        self.replay = Replay(table)
        self.others = others
        full = self.replay.places[self.replay.grid.nearest(FreezingStrategy.full_fine_tuning(head_lr=3e-3))]
        self.full = self.replay.seconds[full, :, -1]  # (sizes,)

    @cached_property
    def opening(self) -> list[FreezingStrategy]:
        """The baselines and the portfolio of the other tasks, at the grid's nearest levels."""
        grid = self.replay.grid
        found = [one.strategy(num_groups=grid.num_groups, epochs=grid.epochs) for one in chosen(self.others)]
        return list(dict.fromkeys([*self.replay.baselines, *map(grid.nearest, found)]))

    def outcome(self, chosen: Sequence[int], seconds: Sequence[Sequence[float]]) -> Outcome:
        """Return an outcome from what was chosen, and the seconds of every run at each size."""
        return Outcome(
            chosen=np.array(chosen),
            runs=np.array([len(own) for own in seconds], dtype=float),
            cost=np.array([sum(own) for own in seconds]) / self.full,
        )


Design = Callable[[Arena, Sequence[int], int], Outcome]
"""A design of a study: from a task, draws for it and a seed to what it chooses."""


def search_alone(arena: Arena, draws: Sequence[int], seed: int, *, engine: Engine, trials: int) -> Outcome:
    """Search each size on one draw, and take the best value in validation."""
    found = [
        _searched(arena, engine, size=size, draw=draws[0], seed=seed, trials=trials)
        for size in range(len(arena.table.sizes))
    ]
    picks = [pick(tried) for tried in found]
    return arena.outcome([0 if one is None else one for one in picks], [[one.seconds for one in own] for own in found])


def best_on_examples(arena: Arena, draws: Sequence[int], seed: int) -> Outcome:
    """Random search as many do it: by the lowest validation loss of the first draw."""
    dice, table = np.random.default_rng(seed), arena.table
    chosen, seconds = [], []
    for size in range(len(table.sizes)):
        places = dice.permutation(arena.replay.searched)[:RIVAL_TRIALS]
        losses = table.val_loss[places, size, draws[0]].min(axis=-1)
        chosen.append(int(places[losses.argmin()]))
        seconds.append(arena.replay.seconds[places, size, -1].tolist())
    return arena.outcome(chosen, seconds)


def first_edition(arena: Arena, draws: Sequence[int], seed: int) -> Outcome:
    """Explore by TPE, then judge each family's best and its best baseline by test scores on five draws."""
    engine, replay, chosen, seconds = ENGINES["baselines + TPE + PhasePruner"], arena.replay, [], []
    for size in range(len(arena.table.sizes)):
        tried = [*_searched(arena, engine, size=size, draw=draws[0], seed=seed, trials=30)]
        best: dict[tuple[str, bool], Tried] = {}
        for one in (one for one in tried if not one.pruned):
            for usual in {False, replay.strategies[one.strategy] in replay.baselines}:
                key = replay.families[one.strategy], usual
                best[key] = max(best.get(key, one), one, key=lambda one: one.value)
        places = list({one.strategy for one in best.values()})
        repeats = list(draws[1:6])
        chosen.append(places[int(arena.table.score[places, size][:, repeats].mean(axis=1).argmax())])
        again = np.repeat(replay.seconds[places, size, -1], len(repeats)).tolist()
        seconds.append([*(one.seconds for one in tried), *again])
    return arena.outcome(chosen, seconds)


def frostline(
    arena: Arena,
    draws: Sequence[int],
    seed: int,
    *,
    trials: int = TRIALS,
    repeats: int = REPEATS,
    recommends: bool = False,
) -> Outcome:
    """Study as the product does: its opening, its race, its verdict.

    recommends: take the recommended strategy, not the leader.
    """
    replay = arena.replay
    explored = [
        row
        for size in range(len(arena.table.sizes))
        for row in replay.explored(
            _searched(
                arena,
                ENGINES["baselines + TPE"],
                size=size,
                draw=draws[0],
                seed=seed,
                trials=trials,
                first=arena.opening,
            ),
            size,
            draws[0],
        )
    ]
    results = replay.raced(explored, draws=draws[1:], trials=trials, repeats=repeats)
    chosen = []
    for size in results.sizes:
        verdict = judge(results, size) if recommends else None
        if verdict is not None:
            chosen.append(replay.places[verdict.recommended.strategy])
            continue
        scores = defaultdict(list)
        for row in results.confirmed(size):
            scores[replay.places[row.strategy]].append(row.value)
        most = max(map(len, scores.values()))
        chosen.append(max((place for place in scores if len(scores[place]) == most), key=lambda p: np.mean(scores[p])))
    seconds = [[row.seconds or 0.0 for row in results.rows if row.size == size] for size in results.sizes]
    return arena.outcome(chosen, seconds)


def one_default(arena: Arena, draws: Sequence[int], seed: int) -> Outcome:
    """No search: the last group trains, at 0.003."""
    grid = arena.replay.grid
    usual = FreezingStrategy.partial_freezing(freeze_depth=grid.num_groups - 1, head_lr=3e-3)
    place = arena.replay.places[grid.nearest(usual)]
    return arena.outcome([place] * len(arena.table.sizes), [[] for _ in arena.table.sizes])


def best_elsewhere(arena: Arena, draws: Sequence[int], seed: int) -> Outcome:
    """No search: the one strategy that is best on the other tasks."""
    grid = arena.replay.grid
    best = chosen(arena.others, count=1)[0].strategy(num_groups=grid.num_groups, epochs=grid.epochs)
    place = arena.replay.places[grid.nearest(best)]
    return arena.outcome([place] * len(arena.table.sizes), [[] for _ in arena.table.sizes])


def _searched(
    arena: Arena,
    engine: Engine,
    *,
    size: int,
    draw: int,
    seed: int,
    trials: int,
    first: Sequence[FreezingStrategy] | None = None,
) -> Sequence[Tried]:
    return arena.replay.search(
        size=size, repeat=draw, sampler=engine.sampler(seed + size), pruner=engine.pruner(arena.replay),
        first=engine.first if first is None else first, trials=trials,
    )  # fmt: skip


DESIGNS: dict[str, Design] = {
    "one default: last group, .003": one_default,
    "best single of the other tasks": best_elsewhere,
    "random search, lowest loss": best_on_examples,
    "random search": partial(search_alone, engine=ENGINES["random"], trials=RIVAL_TRIALS),
    "random search, four times": partial(search_alone, engine=ENGINES["random"], trials=4 * RIVAL_TRIALS),
    "TPE + median": partial(search_alone, engine=ENGINES["TPE + Median"], trials=RIVAL_TRIALS),
    "TPE + Hyperband": partial(search_alone, engine=ENGINES["TPE + Hyperband"], trials=RIVAL_TRIALS),
    "first edition": first_edition,
    "Frostline, leader": frostline,
    "Frostline, recommended": partial(frostline, recommends=True),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Played:
    """A design's regrets on a task in points (sizes, draws), and its mean runs and cost (sizes,)."""

    regret: Array
    runs: Array
    cost: Array


def played(arena: Arena, design: Design, *, halvings: int) -> Played:
    """Play a design on halvings of a table's draws.

    The regret of a draw is the mean over the halvings in which it measures.
    """
    table, dice = arena.table, np.random.default_rng(0)
    score = 100 * table.score[: arena.replay.searched].astype(float)  # (strategies, sizes, repeats)
    others = score.sum(axis=2, keepdims=True) - score
    best = np.take_along_axis(score, others.argmax(axis=0)[None], axis=0)[0]  # (sizes, repeats)
    sums, counts = np.zeros(best.shape), np.zeros(table.repeats)
    outcomes = []
    for halving in range(halvings):
        order = dice.permutation(table.repeats)
        study, truth = order[: -(-table.repeats // 2)], order[-(-table.repeats // 2) :]
        outcomes.append(found := design(arena, study.tolist(), 1000 * halving))
        sums[:, truth] += (best - score[found.chosen, range(len(table.sizes))])[:, truth]
        counts[truth] += 1
    return Played(
        regret=sums[:, counts > 0] / counts[counts > 0],
        runs=np.mean([one.runs for one in outcomes], axis=0),
        cost=np.mean([one.cost for one in outcomes], axis=0),
    )


def report(tables: Sequence[Table], *, studies: int, tasks: Sequence[str] = ()) -> Iterator[Text]:
    """Yield each design's mean regret and cost: on small tasks below and from 200 labels, on each real backbone.

    tasks: to play on; all of the tables by default. Every other table makes the portfolio.
    """
    played_on = [table for table in tables if (not tasks or table.task in tasks) and table.repeats >= LEAST_DRAWS]
    arenas = [Arena(table, [other for other in tables if other is not table]) for table in played_on]
    text = Text(
        "design", *dict.fromkeys(_group(table, n) for table in played_on for n in table.trained), "worst cell", "runs",
        "equivalents", title=f"Mean regret in points (standard error) of {studies} halvings",
    )  # fmt: skip
    for name, design in DESIGNS.items():
        found = [played(arena, design, halvings=studies) for arena in arenas]
        groups: dict[str, list[Array]] = defaultdict(list)
        for table, one in zip(played_on, found, strict=True):
            for at, labels in enumerate(table.trained):
                groups[_group(table, labels)].append(one.regret[at])
        worst = max(float(one.regret.mean(axis=1).max()) for one in found)
        runs, cost = (f"{np.mean([getattr(one, kind).mean() for one in found]):.0f}" for kind in ("runs", "cost"))
        text.add_row(name, *map(_mean_and_error, groups.values()), f"{worst:.1f}", runs, cost)
    text.caption = "runs and full fine-tuning equivalents a size, exploring and racing; the mean over tasks"
    yield text


def _group(table: Table, labels: int) -> str:
    if table.task not in SMALL:
        return table.task
    return f"small, < {FEW}" if labels < FEW else f"small, >= {FEW}"


def _mean_and_error(regrets: Sequence[Array]) -> str:
    errors = [own.std(ddof=1) / np.sqrt(len(own)) if len(own) > 1 else np.nan for own in regrets]
    return f"{np.mean([own.mean() for own in regrets]):.2f} ({np.sqrt(np.square(errors).sum()) / len(regrets):.2f})"
