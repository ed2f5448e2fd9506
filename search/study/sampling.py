"""Explore: what the next exploring trial of a size is, and who may end it before its time."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import optuna

from search.pruning import PhasePruner
from search.spec.study_spec import StudySpec
from search.verdict.confirm import best_of_each_family
from search.verdict.rows import Row
from strategies import FreezingStrategy

KEPT = 70.0
"""The best percentage of trials, at each epoch, that goes on. On the replay tables (`python -m tests.replay pruners`)
the half that a median keeps costs 5 % less, but it prunes more than twice as many of the truly best tenth, above all
of full fine-tuning and freeze-then-unfreeze, which come from behind."""


def warm_start(
    spec: StudySpec, *, baselines: int, tried: Collection[FreezingStrategy], smaller: Mapping[int, Sequence[Row]]
) -> Row | None:
    """The trial of a smaller size to try again next, before the sampler may suggest anything; None if it is its turn.

    From the nearest size on, the best of each family, best first: at most half of the trials that the baselines leave.
    Only strategies pass from size to size, never scores, which can't be compared.

    tried: this size's strategies so far, in their canonical spelling. smaller: rows of smaller sizes that are explored.
    """
    if len(tried) >= baselines + (spec.search.trials - baselines) // 2:
        return None
    maximize = spec.task.direction == "maximize"
    for size in sorted(smaller, reverse=True):
        best = best_of_each_family(smaller[size], maximize=maximize)
        for row in sorted(best, key=lambda row: row.value or 0.0, reverse=maximize):
            if row.strategy not in tried:
                return row
    return None


def sampler(spec: StudySpec, *, size: int, number: int) -> optuna.samplers.BaseSampler:
    """The sampler of one trial, seeded so that a study that was stopped goes on as it would have."""
    seed = int(np.random.SeedSequence([spec.search.seed, size, number]).generate_state(1)[0])
    if spec.search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    # group=True: fields that are asked for only at some depths stay in the joint model.
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)


def pruner(spec: StudySpec, *, num_groups: int, baselines: int) -> optuna.pruners.BasePruner:
    """The pruner of a study: the first trials, the baselines among them, run to their end."""
    if spec.search.pruner == "none":
        return optuna.pruners.NopPruner()
    share = KEPT if spec.search.pruner == "percentile" else 50.0
    rule = optuna.pruners.PercentilePruner(share, n_startup_trials=max(5, baselines))
    return PhasePruner(rule, num_groups=num_groups, epochs=spec.train.epochs)
