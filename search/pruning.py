"""A pruner that reads each trial's freezing schedule."""

import math
import warnings
from dataclasses import fields

from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from strategies import FreezingStrategy

_FIELDS = frozenset(field.name for field in fields(FreezingStrategy))


class PhasePruner(BasePruner):
    """Let another pruner judge a trial only some epochs after its last unfreezing.

    A trial that unfreezes at epoch 8 has shown nothing before. Stock Median and SHA prune 80-96 % of the
    late-unfreezing trials that would have won. Linear probing, whose epochs are nearly free, is never pruned. A value
    that is not finite prunes at once.

    The schedule is read from `trial.params`, named as the fields of `strategies.FreezingStrategy`; `freeze_depth` is
    required. A field that is missing has its default, so suggest what your script holds constant too, from a range of
    one value. Steps are epochs, counted from 0.

        study = optuna.create_study(pruner=PhasePruner(MedianPruner(), num_groups=5, epochs=20))

    Args:
        pruner: judges the trials that it may.
        num_groups: layer groups of the backbone, at least 1.
        epochs: of each trial, at least 1.
        grace: epochs after the last unfreezing before `pruner` is asked, at least 0.

    Raises `TypeError` or `ValueError` for other arguments. `Trial.should_prune` raises `ValueError` if the params are
    no strategy's.
    """

    def __init__(self, pruner: BasePruner, *, num_groups: int, epochs: int, grace: int = 3) -> None:
        if not isinstance(pruner, BasePruner):
            raise TypeError(f"`pruner` must be an Optuna pruner, got {pruner!r}.")
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
        params = {name: value for name, value in trial.params.items() if name in _FIELDS}
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
            # A median over trials that never got this far is NaN, and prunes nothing.
            warnings.filterwarnings("ignore", "All-NaN slice encountered", RuntimeWarning)
            return self.pruner.prune(study, trial)
