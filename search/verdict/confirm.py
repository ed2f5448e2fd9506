"""Candidates of the confirm race, and the trials that they need."""

from collections.abc import Iterable, Sequence

from search.spec.study_spec import StudySpec
from search.verdict.metric import Metric
from search.verdict.race import Place, race
from search.verdict.rows import Row
from strategies import FreezingStrategy


def best_of_each_family(rows: Iterable[Row], *, metric: Metric) -> list[Row]:
    """Return the best complete trial of each family, in order of the families' first appearance."""
    best: dict[str, tuple[float, Row]] = {}
    for row in rows:
        value = row.final_value
        if value is not None and (row.family not in best or metric.sign * value > best[row.family][0]):
            best[row.family] = metric.sign * value, row
    return [row for _, row in best.values()]


def candidates(explored: Sequence[Row], *, metric: Metric) -> list[FreezingStrategy]:
    """Return an explored size's candidates: each family's best trial and best baseline.

    The best of many noisy values is too good (the winner's curse), and the more so the more trials there are. So a
    baseline that the search seems to beat is run beside it.
    """
    baselines = best_of_each_family((row for row in explored if row.baseline), metric=metric)
    best = best_of_each_family(explored, metric=metric)
    return [*dict.fromkeys(row.strategy for row in [*best, *baselines])]


def unsearched_candidates(
    baselines: Sequence[FreezingStrategy], smaller: Sequence[Row], *, metric: Metric
) -> list[FreezingStrategy]:
    """Return the candidates of a size that is not explored.

    smaller: the exploring trials of the next smaller size. The best of each family joins the baselines.
    """
    best = best_of_each_family(smaller, metric=metric)
    return [*dict.fromkeys([*baselines, *(row.strategy for row in best)])]


def ended(confirmed: Iterable[Row]) -> dict[Place, Row]:
    """Return the confirm trials that have ended, by their places."""
    return {(row.strategy, row.repeat): row for row in confirmed if row.judged and row.is_finished}


def needed_confirm_trials(
    strategies: Sequence[FreezingStrategy], confirmed: Iterable[Row], *, spec: StudySpec, metric: Metric
) -> set[Place]:
    """Return the confirm trials that these candidates need, given those that have ended."""
    return race(
        {place: metric.sign * row.test_score(metric) for place, row in ended(confirmed).items()},
        strategies,
        repeats=spec.confirm.repeats,
        margin=spec.confirm.margin,
        relative=metric.relative,
    )
