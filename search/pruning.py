"""Pruning that knows the schedule."""

import math
import warnings
from dataclasses import fields

from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from strategies import FreezingStrategy

_FIELDS = frozenset(field.name for field in fields(FreezingStrategy))


class PhasePruner(BasePruner):
    """Give each trial time after its own last unfreezing before another pruner may judge it.

    A trial that unfreezes at epoch 8 has shown nothing before epoch 8: stock Median and SHA prune 80-96 % of the
    late-unfreezing trials that would have won. So no verdict is passed before `last unfreezing + grace` epochs,
    and never on linear probing, whose epochs are nearly free. A loss that is not finite stops a trial at once.

    It reads the schedule from `trial.params`, which are named as the fields of `strategies.FreezingStrategy`
    (`freeze_depth` at the least; others may be searched too), so the stock `PyTorchLightningPruningCallback` goes on
    reporting plain epochs. What they do not say is as a strategy has it by default - `unfreeze_epoch` 0: suggest what
    your script holds constant too, from a range of one value. Steps are epochs, counted from 0. `should_prune` raises
    `ValueError` for a trial whose params make no strategy.

        study = optuna.create_study(pruner=PhasePruner(MedianPruner(), num_groups=5, epochs=20))
    """

    def __init__(self, pruner: BasePruner, *, num_groups: int, epochs: int, grace: int = 3) -> None:
        if not isinstance(pruner, BasePruner):
            raise TypeError(f"`pruner` must be a pruner of Optuna's, got {pruner!r}.")
        for name, value, least in (("num_groups", num_groups, 1), ("epochs", epochs, 1), ("grace", grace, 0)):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"`{name}` must be a whole number of at least {least}, got {value!r}.")
        self.pruner = pruner
        self.num_groups = num_groups
        self.epochs = epochs
        self.grace = grace

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None:
            return False
        if not math.isfinite(trial.intermediate_values[step]):
            return True
        params = {name: value for name, value in trial.params.items() if name in _FIELDS}  # others may be searched too
        try:
            strategy = FreezingStrategy.from_params(params).canonical(self.num_groups, self.epochs)
        except (TypeError, ValueError) as error:
            raise ValueError(f"PhasePruner reads a strategy from trial {trial.number}'s params: {error}") from None
        if strategy.freeze_depth == self.num_groups:
            return False
        schedule = strategy.schedule(self.num_groups, self.epochs)
        if step < schedule.last_unfreezing + self.grace:
            return False
        with warnings.catch_warnings():
            # A median over trials that never got this far is all NaN, which means "can't tell".
            warnings.filterwarnings("ignore", "All-NaN slice encountered", RuntimeWarning)
            return self.pruner.prune(study, trial)
