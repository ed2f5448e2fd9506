"""A search replayed: Optuna's own sampler and pruner, with the table in place of training."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from search.storage.location import StudyLocation
from search.study.space import baselines, fixed_params, suggest
from search.verdict.results import Results
from search.verdict.rows import Row
from strategies import Family, FreezingStrategy
from tests.replay.grid import Grid, spec_of
from tests.replay.table import Array, Table

OVERHEAD = 0.08
"""Seconds that a trial takes beside its training, as the benchmark of speed measures it."""

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A replayed trial: its strategy (a place in the table), epochs, seconds and value."""

    strategy: int
    epochs: int
    seconds: float
    value: float
    pruned: bool


class OnGrid:
    """A trial whose epochs are suggested on the grid's levels, so that a pruner reads a trained curve."""

    def __init__(self, trial: optuna.Trial, grid: Grid) -> None:
        self.trial = trial
        self.grid = grid

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        if name == "unfreeze_epoch":
            return self.trial.suggest_int(name, 0, self.grid.unfreezes[-1], step=self.grid.unfreeze_step)
        return self.trial.suggest_int(name, low, high, log=log)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return self.trial.suggest_float(name, low, high, log=log)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        if name == "epochs_per_group":
            choices = list(self.grid.waits)
        return self.trial.suggest_categorical(name, choices)


class Replay:
    """A task's table, ready to be searched many times.

    values: of the trials (strategies, sizes, repeats, epochs), more is better; by default those of the product.
    """

    def __init__(self, table: Table, *, values: Array | None = None) -> None:
        self.table = table
        self.grid = table.grid
        self.spec = spec_of(table.task)
        self.strategies = table.strategies
        self.places = {strategy: place for place, strategy in enumerate(self.strategies)}
        self.families = [Family(strategy.family(table.num_groups)) for strategy in self.strategies]
        found = [self.grid.nearest(one) for one in baselines(self.spec, num_groups=table.num_groups)]
        self.baselines = list(dict.fromkeys(found))
        self.truth = table.score.mean(axis=2)  # (strategies, sizes)
        self.values = table.values if values is None else values
        self.searched = len(self.strategies) - len(self.grid.extras)
        seconds = np.median(table.seconds, axis=2)
        self.seconds = np.cumsum(seconds, axis=-1) + OVERHEAD  # (strategies, sizes, epochs)

    def slice_cost(self, size: int) -> float:
        """Seconds to train every strategy of the search's space once, at one size (an index) on one repeat."""
        return float(self.seconds[: self.searched, size, -1].sum())

    def row(self, place: int, size: int, repeat: int, *, number: int) -> Row:
        """Return the exploring trial of a table's strategy as the product's row."""
        return Row(
            number=number, state="COMPLETE", size=self.table.sizes[size], repeat=0, strategy=self.strategies[place],
            family=str(self.families[place]), value=float(self.values[place, size, repeat, -1]), epochs=None,
            seconds=float(self.seconds[place, size, -1]), trainable_parameters=None, seed=None, curve=(),
            baseline=self.strategies[place] in self.baselines,
        )  # fmt: skip

    def explored(self, tried: Sequence[Tried], size: int, repeat: int) -> list[Row]:
        """Return a search's trials as the product's rows."""
        rows = [self.row(one.strategy, size, repeat, number=number) for number, one in enumerate(tried)]
        return [
            replace(row, value=one.value, state="PRUNED" if one.pruned else "COMPLETE")
            for row, one in zip(rows, tried, strict=True)
        ]

    def judged(self, place: int, size: int, repeat: int, *, number: int, run: int) -> Row:
        """Return the confirm trial of a table's strategy, with its example scores, as repeat `run` of a study."""
        outcome = self.table.outcome[place, size, repeat]
        score, validated = float(outcome.mean()), float(self.table.undrawn[place, size, repeat, -1])
        return replace(
            self.row(place, size, repeat, number=number), repeat=run, judged=True, value=score,
            scores={"test_accuracy": score, "val_accuracy": validated}, example_scores=outcome,
        )  # fmt: skip

    def raced(self, explored: Sequence[Row], *, draws: Sequence[int], trials: int, repeats: int) -> Results:
        """Return the results of a study that explored so and raced on these draws of the table, as the product does."""
        spec = self.spec.changed(search={"trials": trials}, confirm={"repeats": min(repeats, len(draws))})
        location = StudyLocation.of(self.table.task, out=Path("studies"), storage=None)
        results = Results(location=location, spec=spec, num_groups=self.table.num_groups, rows=tuple(explored))
        at = {labels: size for size, labels in enumerate(self.table.sizes)}
        while missing := [
            (size, strategy, run)
            for size in results.sizes
            for strategy, run in results.needed_confirm_trials(size) - results.ended(size).keys()
        ]:
            again = [
                self.judged(self.places[strategy], at[size], draws[run - 1], number=len(results.rows) + order, run=run)
                for order, (size, strategy, run) in enumerate(missing)
            ]
            results = replace(results, rows=(*results.rows, *again))
        return results

    def search(
        self,
        *,
        size: int,
        repeat: int,
        sampler: optuna.samplers.BaseSampler,
        pruner: optuna.pruners.BasePruner | None = None,
        first: Sequence[FreezingStrategy] | None = None,
        trials: int = 10_000,
        seconds: float = np.inf,
    ) -> list[Tried]:
        """Replay one study: `first` (by default the baselines), then the sampler, to a number of trials or seconds.

        size: an index of the table's. A trial that ends after the seconds does not count.
        """
        study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner or optuna.pruners.NopPruner())
        opening = list(self.baselines if first is None else first)
        found: list[Tried] = []
        spent = 0.0
        while len(found) < trials:
            strategy = opening.pop(0) if opening else None
            if strategy is not None:
                study.enqueue_trial(fixed_params(strategy, self.spec, num_groups=self.table.num_groups))
            trial = study.ask()
            asked = suggest(
                OnGrid(trial, self.grid),  # type: ignore[arg-type]
                self.spec,
                num_groups=self.table.num_groups,
                pretrained=strategy is None or strategy.pretrained,
            )
            tried = self._run(study, trial, self.places[self.grid.nearest(asked)], size, repeat)
            spent += tried.seconds
            if spent > seconds:
                break
            found.append(tried)
        return found

    def _run(self, study: optuna.Study, trial: optuna.Trial, place: int, size: int, repeat: int) -> Tried:
        curve = self.values[place, size, repeat]
        for epoch, value in enumerate(curve):
            trial.report(float(value), epoch)
            if trial.should_prune():
                break
        pruned = epoch < len(curve) - 1
        value = float(curve[epoch])
        study.tell(trial, None if pruned else value, state=None if not pruned else optuna.trial.TrialState.PRUNED)
        return Tried(
            strategy=place,
            epochs=epoch + 1,
            seconds=float(self.seconds[place, size, epoch]),
            value=value,
            pruned=pruned,
        )


def draws(table: Table, *, studies: int, seed: int = 0) -> Iterator[tuple[Replay, int, int, int]]:
    """Draw studies of a table: its replay, a random size (an index) and repeat, and a seed of the study's own."""
    replay, dice = Replay(table), np.random.default_rng(seed)
    for _ in range(studies):
        yield replay, int(dice.integers(len(table.sizes))), int(dice.integers(table.repeats)), int(dice.integers(2**31))
