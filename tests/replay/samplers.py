"""Searches by the regret that they reach at equal seconds."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from rich.table import Table as Text

from search.study import sampling
from strategies import FreezingStrategy
from tests.replay.search import Replay, Tried, draws
from tests.replay.table import Table

SHARES = (0.05, 0.1, 0.2, 0.4)
"""Budgets, as shares of what it costs to train every strategy of the grid once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A way to search: a sampler by its seed, a pruner, and what is tried first (None: the baselines)."""

    sampler: Callable[[int], BaseSampler]
    pruner: Callable[[Replay], BasePruner] = lambda replay: NopPruner()
    first: Sequence[FreezingStrategy] | None = None


def tpe(seed: int) -> BaseSampler:
    """Make the product's sampler."""
    return TPESampler(seed=seed, multivariate=True, group=True)


def phase(replay: Replay, *, pruner: str = "percentile") -> BasePruner:
    """Make the product's pruner."""
    spec = replay.spec.changed(search={"pruner": pruner})
    return sampling.pruner(spec, num_groups=replay.table.num_groups, first=len(replay.baselines))


ENGINES = {
    "random": Engine(sampler=lambda seed: RandomSampler(seed=seed), first=()),
    "TPE + Median": Engine(sampler=lambda seed: TPESampler(seed=seed), pruner=lambda _: MedianPruner(), first=()),
    "TPE + Hyperband": Engine(
        sampler=lambda seed: TPESampler(seed=seed),
        pruner=lambda replay: HyperbandPruner(max_resource=replay.grid.epochs),
        first=(),
    ),
    "baselines + random": Engine(sampler=lambda seed: RandomSampler(seed=seed)),
    "baselines + TPE": Engine(sampler=tpe),
    "baselines + QMC": Engine(
        sampler=lambda seed: QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
    ),
    "baselines + TPE + PhasePruner": Engine(sampler=tpe, pruner=phase),
    "baselines + random + PhasePruner": Engine(sampler=lambda seed: RandomSampler(seed=seed), pruner=phase),
    "baselines + GP": Engine(sampler=lambda seed: GPSampler(seed=seed, warn_independent_sampling=False)),
}


def pick(found: Sequence[Tried]) -> int | None:
    """Return the strategy with the best value of those that ran to their end."""
    whole = [one for one in found if not one.pruned]
    return max(whole, key=lambda one: one.value).strategy if whole else None


def regrets(replay: Replay, size: int, found: Sequence[Tried]) -> NDArray[np.float64]:
    """Return gaps to the table's best, (2, budgets), in points: the pick's, the best tried's.

    Before any trial has run to its end: the gap of a random strategy.
    """
    truth = replay.truth[: replay.searched, size]
    worst = truth.max() - truth.mean()
    result = np.full((2, len(SHARES)), worst)
    spent = np.cumsum([one.seconds for one in found])
    for place, share in enumerate(SHARES):
        within = [one for one, by in zip(found, spent, strict=True) if by <= share * replay.slice_cost(size)]
        if (chosen := pick(within)) is not None:
            result[0, place] = truth.max() - replay.truth[chosen, size]
            result[1, place] = truth.max() - max(replay.truth[one.strategy, size] for one in within if not one.pruned)
    return 100 * result


Regrets = dict[str, dict[int, list[NDArray[np.float64]]]]
"""For each engine and size (an index), the regrets of every study."""


def compare(table: Table, *, studies: int) -> Regrets:
    """Run the same studies by every engine."""
    found: Regrets = defaultdict(lambda: defaultdict(list))
    for replay, size, repeat, number in draws(table, studies=studies):
        for name, engine in ENGINES.items():
            tried = replay.search(
                size=size,
                repeat=repeat,
                sampler=engine.sampler(number),
                pruner=engine.pruner(replay),
                first=engine.first,
                seconds=SHARES[-1] * replay.slice_cost(size),
            )
            found[name][size].append(regrets(replay, size, tried))
    return found


def shown(found: Regrets, *, title: str) -> Text:
    """Mean regret in points by budget, of the pick and, in brackets, of the best that was tried."""
    text = Text("search", *(f"{share:g} of a slice" for share in SHARES), "at .2, by size", title=title)
    for name, by_size in found.items():
        mean = np.mean([one for every in by_size.values() for one in every], axis=0)
        sizes = (f"{np.mean([one[0, SHARES.index(0.2)] for one in by_size[size]]):.1f}" for size in sorted(by_size))
        text.add_row(name, *(f"{a:.2f} ({b:.2f})" for a, b in mean.T), " ".join(sizes))
    return text


def report(tables: Sequence[Table], *, studies: int) -> Iterator[Text]:
    """One table a task."""
    for table in tables:
        yield shown(compare(table, studies=studies), title=f"{table.task}: {studies} studies")
