"""The searched parameters by their influence on the explored trials, with its uncertainty."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import rankdata

from search.verdict.results import Results
from search.verdict.statistics import INTERVAL
from strategies import FreezingStrategy

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

LEAST_TRIALS = 12
"""Fewest complete trials from which importances are computed."""
RESAMPLES = 16
"""Resamples of the trials, and as many shuffles of their ranks."""
TREES, TREES_OF_RESAMPLE = 64, 8
"""Trees of the forest of the shares, and of the forests of their ranges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """The share of a searched parameter in the differences in rank of the explored trials.

    low, high: the 90 % range of the share over resamples of the trials.
    noise: the share that it has by chance, the 95 % quantile over trials with shuffled ranks. Shares add to 1, and a
        parameter with many values gets more of what is noise.
    """

    name: str
    share: float
    low: float
    high: float
    noise: float


def importances(results: Results) -> list[Importance]:
    """Return the importance of each parameter that varied, the largest first; [] of too few.

    By fANOVA (Hutter et al., 2014), of all sizes together: a trial's value is its rank among those of its size.
    Those that start from random weights are left out, as are pruned trials.
    """
    ranks = _ranks(results)
    values = {name: [getattr(strategy, name) for strategy, _ in ranks] for name in _names()}
    values = {name: own for name, own in values.items() if len(set(own)) > 1}
    if len(ranks) < LEAST_TRIALS or len(values) < 2:
        return []
    rng, everything = np.random.default_rng(0), range(len(ranks))
    order = [rank for _, rank in ranks]
    if not (shares := _shares(values, order, everything, trees=TREES)):
        return []
    samples = (rng.choice(len(ranks), len(ranks)).tolist() for _ in range(RESAMPLES))
    resampled = [found for sample in samples if (found := _shares(values, order, sample))]
    shuffled = [_shares(values, rng.permutation(order).tolist(), everything) for _ in range(RESAMPLES)]

    def quantile(found: Sequence[Mapping[str, float]], name: str, share: float) -> float:
        return float(np.quantile([one[name] for one in found if one], share))

    low, high = (1 - INTERVAL) / 2, (1 + INTERVAL) / 2
    every = [
        Importance(
            name=name, share=share, low=quantile(resampled, name, low), high=quantile(resampled, name, high),
            noise=quantile(shuffled, name, high),
        )
        for name, share in shares.items()
    ]  # fmt: skip
    return sorted(every, key=lambda one: -one.share)


def _names() -> list[str]:
    return [field.name for field in fields(FreezingStrategy) if field.name not in ("epochs", "steps_per_epoch")]


def _ranks(results: Results) -> list[tuple[FreezingStrategy, float]]:
    """Return the complete trials' strategies, with ranks from 0 to 1 within their size."""
    ranks: list[tuple[FreezingStrategy, float]] = []
    for size in results.sizes:
        known = [
            (row.strategy, results.metric.sign * row.final_value)
            for row in results.explored(size)
            if row.final_value is not None and isfinite(row.final_value) and row.strategy.pretrained
        ]
        places = rankdata([value for _, value in known]) / (len(known) or 1)
        ranks += [(strategy, float(place)) for (strategy, _), place in zip(known, places, strict=True)]
    return ranks


def _shares(
    values: dict[str, list[Any]], ranks: Sequence[float], sample: Sequence[int], *, trees: int = TREES_OF_RESAMPLE
) -> dict[str, float]:
    """Return the parameters' shares in a sample of trials; {} of equal ranks."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # or each study would print a line
    kinds = {name: _distribution(own) for name, own in values.items()}
    trials = [
        optuna.trial.create_trial(
            params={name: own[place] for name, own in values.items()}, distributions=kinds, value=ranks[place]
        )
        for place in sample
    ]
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=trees, seed=0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except RuntimeError:  # no variance in any tree
        return {}
    finally:
        optuna.logging.set_verbosity(verbosity)
    shares = {name: float(found.get(name, 0.0)) for name in values}
    return shares if all(map(isfinite, shares.values())) else {}


def _distribution(values: Sequence[Any]) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(values[0], str | bool):
        return CategoricalDistribution(sorted(set(values)))
    low, high = min(values), max(values)
    if isinstance(values[0], int):
        return IntDistribution(low, high)
    return FloatDistribution(low, high, log=low > 0)
