"""Nominees and candidates: which exploring trials are re-run, on which repeats."""

from collections.abc import Iterable, Mapping, Sequence
from math import inf

from search.spec.study_spec import StudySpec
from search.verdict.metric import Metric
from search.verdict.race import Place, race
from search.verdict.rows import Row

HEAD_TO_HEAD_REPEATS = 2
"""Repeats on which a family's best trial meets its best baseline, in validation alone."""


def best_of_each_family(rows: Iterable[Row], *, metric: Metric) -> list[Row]:
    """Return the best complete trial of each family, in order of the families' first appearance."""
    best: dict[str, tuple[float, Row]] = {}
    for row in rows:
        value = row.final_value
        if value is not None and (row.family not in best or metric.sign * value > best[row.family][0]):
            best[row.family] = metric.sign * value, row
    return [row for _, row in best.values()]


def nominees(rows: Sequence[Row], *, metric: Metric) -> list[tuple[Row, ...]]:
    """Return each family's best trial and, if that is another strategy, its best baseline.

    The best of many noisy values is too good (the winner's curse), and the more so the more trials there are.
    Replayed studies (`python -m tests.replay picks`) gain next to nothing from more exploring without this re-run.
    """
    baselines = {row.family: row for row in best_of_each_family([r for r in rows if r.baseline], metric=metric)}
    found = [(row, baselines.get(row.family, row)) for row in best_of_each_family(rows, metric=metric)]
    return [(best,) if best.strategy == baseline.strategy else (best, baseline) for best, baseline in found]


def ended(confirmed: Iterable[Row]) -> dict[Place, Row]:
    """Return the confirm trials that have ended, by their places."""
    return {(r.source_trial, r.repeat): r for r in confirmed if r.source_trial is not None and r.is_finished}


def candidates(
    families: Iterable[Sequence[Row]], confirmed: Iterable[Row], *, spec: StudySpec, metric: Metric
) -> list[Row]:
    """Return each family's candidate: the head-to-head winner, or its best trial until then."""
    values = {
        place: inf if row.final_value is None else -metric.sign * row.final_value
        for place, row in ended(confirmed).items()
    }
    found = []
    for family in families:
        through = head_to_head_winner(values, [row.number for row in family], repeats=spec.confirm.repeats)
        found.append(next((row for row in family if row.number == through), family[0]))
    return found


def needed_confirm_trials(
    families: Sequence[Sequence[Row]], confirmed: Iterable[Row], *, spec: StudySpec, metric: Metric
) -> set[Place]:
    """Return the confirm trials that these families' nominees need, given those that have ended.

    First come the head-to-head re-runs; once all have ended, the race among the candidates.
    """
    done = ended(confirmed)
    first = range(1, min(HEAD_TO_HEAD_REPEATS, spec.confirm.repeats) + 1)
    pairs = {(row.number, repeat) for family in families if len(family) > 1 for row in family for repeat in first}
    if not pairs <= done.keys():
        return {(row.number, repeat) for family in families for row in family for repeat in first}
    return race(
        {place: metric.sign * row.test_score(metric) for place, row in done.items()},
        [row.number for row in candidates(families, done.values(), spec=spec, metric=metric)],
        repeats=spec.confirm.repeats,
        margin=spec.confirm.margin,
        relative=metric.relative,
    )


def head_to_head_winner(values: Mapping[Place, float], nominees: Sequence[int], *, repeats: int) -> int | None:
    """Return the nominee that becomes its family's candidate; None until their re-runs have ended.

    values: in validation, of the confirm trials that have ended; less is better.
    nominees: the best trial's number first, the baseline's last; the baseline wins a tie.
    """
    first = range(1, min(HEAD_TO_HEAD_REPEATS, repeats) + 1)
    if len(nominees) == 1 or repeats == 0:
        return nominees[0]
    if any((number, repeat) not in values for number in nominees for repeat in first):
        return None
    return min(reversed(nominees), key=lambda number: sum(values[number, repeat] for repeat in first))
