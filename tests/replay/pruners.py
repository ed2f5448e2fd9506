"""PhasePruner against Optuna's own pruners: what each costs, and whom it prunes that it should not."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, PatientPruner, SuccessiveHalvingPruner
from rich.table import Table as Text

from search.pruning import PhasePruner
from tests.replay.search import Replay, Tried
from tests.replay.table import Table

TRIALS = 40
BEST = 0.1


def rivals(num_groups: int, epochs: int, anchors: int) -> dict[str, Callable[[], BasePruner]]:
    """Optuna's pruners as its documentation shows them, and ours."""

    def phase(pruner: BasePruner | None = None, **options: int) -> BasePruner:
        return PhasePruner(pruner or MedianPruner(), num_groups=num_groups, epochs=epochs, **options)

    return {
        "none": NopPruner,
        "Median": MedianPruner,
        "Successive halving": SuccessiveHalvingPruner,
        "Hyperband": lambda: HyperbandPruner(max_resource=epochs),
        "Patient(Median, 3)": lambda: PatientPruner(MedianPruner(), patience=3),
        "PhasePruner": phase,
    }


@dataclass
class Tally:
    """What a pruner did over many studies."""

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
        pick = min(alive, key=lambda place: found[place].value)
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
        """The share of false prunes of each family that is often enough among the best."""
        return {family: float(np.mean(flags)) for family, flags in self.pruned.items() if len(flags) >= least}

    @property
    def gap(self) -> float:
        shares = self.by_family().values()
        return max(shares, default=np.nan) - min(shares, default=np.nan)


def compare(
    tables: list[Table], *, studies: int, seed: int = 0, more: dict[str, Callable[..., BasePruner]] | None = None
) -> dict[str, Tally]:
    """Random searches of `TRIALS` trials, the same for every pruner, at a random size and chain of each table."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    for table in tables:
        replay = Replay(table)
        dice = np.random.default_rng(seed)
        named = rivals(table.num_groups, replay.grid.epochs, len(replay.anchors))
        for name, make in (more or {}).items():
            named[name] = lambda make=make: make(table.num_groups, replay.grid.epochs)  # type: ignore[misc]
        for _ in range(studies):
            size, chain = int(dice.integers(len(table.sizes))), int(dice.integers(table.chains))
            number = int(dice.integers(2**31))
            for name, make in named.items():
                found = replay.search(
                    size=size,
                    chain=chain,
                    sampler=optuna.samplers.RandomSampler(seed=number),
                    pruner=make(),
                    trials=TRIALS,
                )
                tallies[name].add(replay, size, found)
    return tallies


def shown(tallies: dict[str, Tally]) -> Text:
    """As a table for the terminal."""
    text = Text(
        "pruner", "epochs", "seconds", "best 10 % pruned", "family gap", "survivor regret", "pick regret", "by family"
    )
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
