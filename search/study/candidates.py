"""Candidates of the confirm race, and the params that make them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from search.spec.study_spec import StudySpec
from search.study.space import fixed_params, suggest
from search.verdict.confirm import candidates, unsearched_candidates
from search.verdict.metric import Metric
from search.verdict.rows import Row
from strategies import FreezingStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Params of a candidate, and the attributes that its confirm trials store of it."""

    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    facts: dict[str, Any]

    @classmethod
    def of_trial(cls, trial: FrozenTrial, row: Row, **facts: Any) -> "Origin":
        """Return the origin of a trial that explored."""
        facts |= {"family": row.family, "baseline": row.baseline}
        return cls(params=trial.params, distributions=trial.distributions, facts=facts)

    @classmethod
    def of_baseline(cls, baseline: FreezingStrategy, spec: StudySpec, *, num_groups: int) -> "Origin":
        """Return the origin of a baseline that no trial has explored."""
        params = fixed_params(baseline, spec, num_groups=num_groups)
        trial = optuna.trial.FixedTrial(params)
        suggest(trial, spec, num_groups=num_groups, pretrained=baseline.pretrained)  # type: ignore[arg-type]
        facts = {"family": str(baseline.family(num_groups)), "baseline": True}
        return cls(params=trial.params, distributions=trial.distributions, facts=facts)

    def waiting(self, **place: int) -> FrozenTrial:
        """Return a confirm trial that waits at a `size`, `repeat` and `extension`."""
        return optuna.trial.create_trial(
            state=TrialState.WAITING,
            params=self.params,
            distributions=self.distributions,
            user_attrs={**place, **self.facts},
        )


Origins = dict[FreezingStrategy, Origin]
"""Candidates in order, each with its origin."""


def of_explored(trials: Sequence[FrozenTrial], rows: Sequence[Row], *, metric: Metric) -> Origins:
    """Return the candidates of a size that is explored."""
    first = {row.strategy: row for row in reversed(rows)}
    chosen = [first[strategy] for strategy in candidates(rows, metric=metric)]
    return {row.strategy: Origin.of_trial(trials[row.number], row, source_trial=row.number) for row in chosen}


def of_unexplored(
    baselines: Sequence[FreezingStrategy],
    trials: Sequence[FrozenTrial],
    rows: Sequence[Row],
    *,
    spec: StudySpec,
    num_groups: int,
    metric: Metric,
) -> Origins:
    """Return the candidates of an unexplored size: baselines, and what a smaller one found.

    trials, rows: of the next smaller size.
    """
    first = {row.strategy: row for row in reversed(rows)}
    origins = {one: Origin.of_trial(trials[row.number], row, warm_started_from=row.size) for one, row in first.items()}
    origins |= {one: Origin.of_baseline(one, spec, num_groups=num_groups) for one in baselines}
    return {one: origins[one] for one in unsearched_candidates(baselines, rows, metric=metric)}
