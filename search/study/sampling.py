"""Exploring trials of a size: sampler and pruner."""

import numpy as np
import optuna

from search.pruning import PhasePruner
from search.spec.study_spec import StudySpec

KEPT_PERCENT = 70.0
"""The best percentage of trials that continue at each epoch.

On the replay tables (`python -m tests.replay pruners`) a median, which keeps 50, costs 5 % less. But it prunes more
than twice as many of the truly best tenth, mostly full fine-tuning and freeze-then-unfreeze, which catch up late.
"""


def sampler(spec: StudySpec, *, size: int, number: int) -> optuna.samplers.BaseSampler:
    """Return one trial's sampler, seeded so that a resumed study gives the same trials."""
    seed = int(np.random.SeedSequence([spec.search.seed, size, number]).generate_state(1)[0])
    if spec.search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    # group=True keeps fields that are asked for only at some depths in the joint model.
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)


def pruner(spec: StudySpec, *, num_groups: int, first: int) -> optuna.pruners.BasePruner:
    """Return the pruner of a study; trials before the sampler's run to their end."""
    if spec.search.pruner == "none":
        return optuna.pruners.NopPruner()
    percent = KEPT_PERCENT if spec.search.pruner == "percentile" else 50.0
    rule = optuna.pruners.PercentilePruner(percent, n_startup_trials=max(5, first))
    return PhasePruner(rule, num_groups=num_groups, epochs=spec.train.epochs)
