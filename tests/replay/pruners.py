"""PhasePruner against Optuna's own pruners: the costs of each, and the good trials that it prunes."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, PatientPruner, SuccessiveHalvingPruner
from rich.table import Table as Text

from tests.replay.samplers import phase
from tests.replay.search import Replay, Tried, draws
from tests.replay.table import Table

TRIALS = 40
BEST = 0.1


PRUNERS: dict[str, Callable[[Replay], BasePruner]] = {
    "none": lambda replay: NopPruner(),
    "Median": lambda replay: MedianPruner(),
    "Successive halving": lambda replay: SuccessiveHalvingPruner(),
    "Hyperband": lambda replay: HyperbandPruner(max_resource=replay.grid.epochs),
    "Patient(Median, 3)": lambda replay: PatientPruner(MedianPruner(), patience=3),
    "PhasePruner": lambda replay: phase(replay),
    "PhasePruner(Median)": lambda replay: phase(replay, pruner="median"),
}
"""Optuna's pruners as its documentation shows them, and the product's."""


@dataclass
class Tally:
    """A pruner's costs and false prunes over many studies."""

    epochs: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    survivor_regret: list[float] = field(default_factory=list)
    pick_regret: list[float] = field(default_factory=list)
    pruned: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))

    def add(self, replay: Replay, size: int, found: list[Tried]) -> None:
        truth = replay.truth[[one.strategy for one in found], size]
        whole = sum(replay.seconds[one.strategy, size, -1] for one in found)
        self.epochs.append(sum(one.epochs for one in found) / (len(found) * replay.table.val_loss.shape[-1]))
        self.seconds.append(sum(one.seconds for one in found) / whole)
        alive = [place for place, one in enumerate(found) if not one.pruned]
        self.survivor_regret.append(float(truth.max() - truth[alive].max()))
        pick = max(alive, key=lambda place: found[place].value)
        self.pick_regret.append(float(truth.max() - truth[pick]))
        # The best tenth, each strategy once.
        distinct = {one.strategy: place for place, one in reversed(list(enumerate(found)))}
        best = sorted(distinct.values(), key=lambda place: -truth[place])[: max(1, round(BEST * len(distinct)))]
        for place in best:
            self.pruned[str(replay.families[found[place].strategy])].append(found[place].pruned)

    @property
    def false_prunes(self) -> float:
        return float(np.mean([one for flags in self.pruned.values() for one in flags]))

    def by_family(self, least: int = 30) -> dict[str, float]:
        """Return the share of false prunes of each family often enough among the best."""
        return {family: float(np.mean(flags)) for family, flags in self.pruned.items() if len(flags) >= least}

    @property
    def gap(self) -> float:
        shares = self.by_family().values()
        return max(shares, default=np.nan) - min(shares, default=np.nan)


def compare(table: Table, *, studies: int) -> dict[str, Tally]:
    """Random searches of `TRIALS` trials, the same for every pruner, at random sizes and repeats."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    for replay, size, repeat, number in draws(table, studies=studies):
        for name, make in PRUNERS.items():
            sampler, pruner = optuna.samplers.RandomSampler(seed=number), make(replay)
            found = replay.search(size=size, repeat=repeat, sampler=sampler, pruner=pruner, trials=TRIALS)
            tallies[name].add(replay, size, found)
    return tallies


def report(tables: Sequence[Table], *, studies: int) -> Iterator[Text]:
    """One table over all tasks, and one of each."""
    every = {table.task: compare(table, studies=studies) for table in tables}
    for task, tallies in every.items():
        yield shown(tallies, title=f"{task}: {studies} random searches of {TRIALS} trials")
    yield shown({name: merged([tallies[name] for tallies in every.values()]) for name in PRUNERS}, title="all tasks")


def merged(tallies: Sequence[Tally]) -> Tally:
    """Several tallies as one."""
    whole = Tally()
    for one in tallies:
        for name in ("epochs", "seconds", "survivor_regret", "pick_regret"):
            getattr(whole, name).extend(getattr(one, name))
        for family, flags in one.pruned.items():
            whole.pruned[family].extend(flags)
    return whole


def shown(tallies: dict[str, Tally], *, title: str) -> Text:
    """As a table for the terminal: costs as shares of what no pruning costs, regrets and the gap in points."""
    headings = ("pruner", "epochs", "seconds", "best 10 % pruned", "family gap", "survivor regret", "pick regret")
    text = Text(*headings, "best 10 % pruned, by family", title=title)
    for name, tally in tallies.items():
        text.add_row(
            name,
            f"{np.mean(tally.epochs):.2f}",
            f"{np.mean(tally.seconds):.2f}",
            f"{100 * tally.false_prunes:.1f} %",
            f"{100 * tally.gap:.1f}",
            f"{100 * np.mean(tally.survivor_regret):.2f}",
            f"{100 * np.mean(tally.pick_regret):.2f}",
            ", ".join(f"{family.split()[0]} {100 * share:.0f}" for family, share in sorted(tally.by_family().items())),
        )
    return text
