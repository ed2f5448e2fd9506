"""Exploring trials of a size: warm start, sampler and pruner."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import optuna

from search.pruning import PhasePruner
from search.spec.study_spec import StudySpec
from search.verdict.confirm import best_of_each_family
from search.verdict.metric import Metric
from search.verdict.rows import Row
from strategies import FreezingStrategy

KEPT_PERCENT = 70.0
"""The best percentage of trials that continue at each epoch.

On the replay tables (`python -m tests.replay pruners`) a median, which keeps 50, costs 5 % less. But it prunes more
than twice as many of the truly best tenth, mostly full fine-tuning and freeze-then-unfreeze, which catch up late.
"""


def warm_start(
    spec: StudySpec,
    *,
    metric: Metric,
    baselines: int,
    tried: Collection[FreezingStrategy],
    smaller: Mapping[int, Sequence[Row]],
) -> Row | None:
    """Return the smaller size's trial to try next; None if it is the sampler's turn.

    The best of each family, best first, from the nearest size on: at most half of the trials that the baselines leave.
    Scores do not pass from size to size: they can't be compared.

    baselines: their number.
    tried: canonical strategies tried at this size so far.
    smaller: rows of each smaller size that is explored.
    """
    if len(tried) >= baselines + (spec.search.trials - baselines) // 2:
        return None
    for size in sorted(smaller, reverse=True):
        best = best_of_each_family(smaller[size], metric=metric)
        for row in sorted(best, key=lambda row: row.value or 0.0, reverse=metric.higher_is_better):
            if row.strategy not in tried:
                return row
    return None


def sampler(spec: StudySpec, *, size: int, number: int) -> optuna.samplers.BaseSampler:
    """Return one trial's sampler, seeded so that a resumed study gives the same trials."""
    seed = int(np.random.SeedSequence([spec.search.seed, size, number]).generate_state(1)[0])
    if spec.search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    # group=True keeps fields that are asked for only at some depths in the joint model.
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)


def pruner(spec: StudySpec, *, num_groups: int, baselines: int) -> optuna.pruners.BasePruner:
    """Return the pruner of a study; the first trials, baselines included, run to their end."""
    if spec.search.pruner == "none":
        return optuna.pruners.NopPruner()
    percent = KEPT_PERCENT if spec.search.pruner == "percentile" else 50.0
    rule = optuna.pruners.PercentilePruner(percent, n_startup_trials=max(5, baselines))
    return PhasePruner(rule, num_groups=num_groups, epochs=spec.train.epochs)
