"""Params that make a candidate of the race, and where they come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from search.study.space import fixed_params, suggest
from search.verdict.results import Results
from strategies import FreezingStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Params of a candidate, and the attributes that its confirm trials store of it."""

    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    facts: dict[str, Any]

    @classmethod
    def of(
        cls, strategy: FreezingStrategy, results: Results, *, size: int, trials: Mapping[int, Sequence[FrozenTrial]]
    ) -> "Origin":
        """Return the trial that found a candidate, at that size or the nearest.

        One that no trial has explored is a baseline, or of the portfolio.

        trials: the exploring ones of each size, by number.
        """
        facts: dict[str, Any] = {
            "family": str(strategy.family(results.num_groups)),
            "baseline": strategy in results.baselines,
            "raced_with": sorted(results.raced_with(size)),
        }
        raced = results.raced_with(size) & trials.keys()
        found = [row for other in raced for row in results.explored(other) if row.strategy == strategy]
        found = [row for row in found if row.final_value is not None]
        if not found:
            params = fixed_params(strategy, results.spec, num_groups=results.num_groups)
            fixed: Any = optuna.trial.FixedTrial(params)
            suggest(fixed, results.spec, num_groups=results.num_groups, pretrained=strategy.pretrained)
            return cls(params=fixed.params, distributions=fixed.distributions, facts=facts)
        row = min(found, key=lambda row: (abs(row.size - size), row.size, row.number))
        facts |= {"source_trial": row.number} if row.size == size else {"warm_started_from": row.size}
        trial = trials[row.size][row.number]
        return cls(params=trial.params, distributions=trial.distributions, facts=facts)

    def waiting(self, **place: int) -> FrozenTrial:
        """Return a confirm trial that waits at a `size`, `repeat` and `extension`."""
        return optuna.trial.create_trial(
            state=TrialState.WAITING,
            params=self.params,
            distributions=self.distributions,
            user_attrs={**place, **self.facts},
        )
