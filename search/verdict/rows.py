"""What a study has found, as plain values: no torch, no optuna."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan
from typing import Any

from numpy.typing import NDArray

from search.spec.study_spec import StudySpec
from search.storage.location import StudyLocation
from search.verdict.confirm import HEAD_TO_HEAD_REPEATS, Place, head_to_head_winner, wanted
from search.verdict.metric import METRICS, Metric
from strategies import FreezingStrategy


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """One trial. `curve` has (epoch, value of the metric that steers); what is not known yet is None or empty.

    `warm_started_from` is the smaller size at which it was its family's best, where that is why it was tried.
    `source_trial` is, for a confirm trial, the number of the exploring trial whose strategy it runs again.
    `predictions_file` is its file's name, and `example_scores` (N,) what that says of each test example: whether it
    is right, or its squared error. `test_se` is the standard error of a mean squared error over test examples.
    """

    number: int
    state: str
    size: int
    repeat: int
    strategy: FreezingStrategy
    family: str
    value: float | None
    best_epoch: int | None
    epochs: int | None
    seconds: float | None
    trainable_parameters: int | None
    seed: int | None
    curve: tuple[tuple[int, float], ...]
    baseline: bool
    warm_started_from: int | None = None
    source_trial: int | None = None
    test_accuracy: float | None = None
    test_loss: float | None = None
    test_macro_f1: float | None = None
    test_auroc: float | None = None
    test_mse: float | None = None
    test_mae: float | None = None
    test_r2: float | None = None
    test_se: float | None = None
    test_examples: int | None = None
    reason: str | None = None
    predictions_file: str | None = None
    example_scores: NDArray[Any] | None = None

    @property
    def confirms(self) -> bool:
        return self.source_trial is not None

    @property
    def is_finished(self) -> bool:
        return self.state in ("COMPLETE", "PRUNED", "FAIL")

    def has_score(self, measure: Metric) -> bool:
        """Whether it is complete, with a finite score of this measure."""
        score = getattr(self, measure.attribute)
        return self.state == "COMPLETE" and score is not None and isfinite(score)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Results:
    """All that a study has found so far, and the spec it was run with.

    kind: "classification" or "regression".
    groups: the layer groups' names, input side first; empty where they are not stored.
    """

    location: StudyLocation
    spec: StudySpec
    num_groups: int
    rows: tuple[Row, ...]
    kind: str = "classification"
    groups: tuple[str, ...] = ()

    @property
    def measure(self) -> Metric:
        """What its strategies are judged by."""
        return METRICS[self.kind]

    @property
    def sizes(self) -> list[int]:
        return sorted({row.size for row in self.rows})

    def explored(self, size: int) -> list[Row]:
        return [row for row in self.rows if row.size == size and not row.confirms]

    def confirmed(self, size: int) -> list[Row]:
        """The confirm trials of the size's present entrants; those of former ones count no more."""
        numbers = {row.number for family in self.nominees(size) for row in family}
        return [row for row in self.rows if row.size == size and row.source_trial in numbers]

    def nominees(self, size: int) -> list[tuple[Row, ...]]:
        """Whom each family may send to the final, once the size is explored to its budget; else none."""
        explored = self.explored(size)
        if len(explored) < self.spec.search.trials or not all(row.is_finished for row in explored):
            return []
        return nominees(explored, maximize=self.spec.task.direction == "maximize")

    def candidates(self, size: int) -> list[Row]:
        """One of each family, once the size is explored: who won its play-off, and until that its best trial."""
        return candidates(self.nominees(size), self.confirmed(size), spec=self.spec)

    def wanted(self, size: int) -> set[Place]:
        """The confirm trials that the size needs, as far as can be told now: (source_trial, repeat)."""
        return needed_confirm_trials(self.nominees(size), self.confirmed(size), spec=self.spec, measure=self.measure)

    def most_confirms(self, size: int, *, families: int) -> int:
        """So many confirm trials the size comes to at the most; of so many families, until it is explored."""
        repeats, entrants = self.spec.confirm.repeats, self.nominees(size)
        play_off = min(HEAD_TO_HEAD_REPEATS, repeats)
        if not entrants:  # each is a trial of its own
            trials = self.spec.search.trials
            through = min(families, trials)
            return through * repeats + (min(2 * families, trials) - through) * play_off
        ended = Counter(row.source_trial for row in self.confirmed(size) if row.is_finished)
        if self.is_confirmed(size):
            return ended.total()
        candidates = {row.number for row in self.candidates(size)}
        lost = [row.number for family in entrants for row in family if row.number not in candidates]
        return len(entrants) * repeats + sum(max(ended[number], play_off) for number in lost)

    def is_confirmed(self, size: int) -> bool:
        """Whether every confirm trial that its verdict needs has ended."""
        done = {(row.source_trial, row.repeat) for row in self.confirmed(size) if row.is_finished}
        return bool(self.candidates(size)) and self.wanted(size) <= done

    def is_finished(self, sizes: Sequence[int]) -> bool:
        """Whether these sizes are explored to the budget, and confirmed where anything was complete."""
        return all(
            len(self.explored(size)) >= self.spec.search.trials
            and all(row.is_finished for row in self.explored(size))
            and (not self.candidates(size) or self.is_confirmed(size))
            for size in sizes
        )


def nominees(rows: Sequence[Row], *, maximize: bool) -> list[tuple[Row, ...]]:
    """By family its best trial and, where that is another strategy, its best baseline.

    The best of many trials on a few validation examples is lucky, and the more so the more there are: in replayed
    studies (`python -m tests.replay picks`) more exploring brings next to nothing without this second look at it,
    beside what everybody would try.
    """
    baselines = {row.family: row for row in best_of_each_family([r for r in rows if r.baseline], maximize=maximize)}
    found = [(row, baselines.get(row.family, row)) for row in best_of_each_family(rows, maximize=maximize)]
    return [(best,) if best.strategy == baseline.strategy else (best, baseline) for best, baseline in found]


def candidates(entrants: Iterable[Sequence[Row]], confirmed: Iterable[Row], *, spec: StudySpec) -> list[Row]:
    """Of each family's entrants the one that won the play-off; the first of them while that is not decided."""
    sign = -1 if spec.task.direction == "maximize" else 1
    values = {
        (row.source_trial, row.repeat): sign * row.value if row.state == "COMPLETE" and row.value is not None else inf
        for row in confirmed
        if row.source_trial is not None and row.is_finished
    }
    found = []
    for family in entrants:
        through = head_to_head_winner(values, [row.number for row in family], repeats=spec.confirm.repeats)
        found.append(next((row for row in family if row.number == through), family[0]))
    return found


def needed_confirm_trials(
    entrants: Sequence[Sequence[Row]], confirmed: Sequence[Row], *, spec: StudySpec, measure: Metric
) -> set[Place]:
    """The confirm trials (source_trial, repeat) that these entrants need, after those that have ended."""
    scores: dict[Place, float] = {}
    for row in confirmed:
        if row.source_trial is not None and row.is_finished:
            score = measure.sign * getattr(row, measure.attribute) if row.has_score(measure) else nan
            scores[row.source_trial, row.repeat] = score
    first = range(1, min(HEAD_TO_HEAD_REPEATS, spec.confirm.repeats) + 1)
    play_offs = {(row.number, repeat) for family in entrants if len(family) > 1 for row in family for repeat in first}
    if not play_offs <= scores.keys():
        return {(row.number, repeat) for family in entrants for row in family for repeat in first}
    return wanted(
        scores,
        [row.number for row in candidates(entrants, confirmed, spec=spec)],
        repeats=spec.confirm.repeats,
        margin=spec.confirm.margin,
        relative=measure.relative,
    )


def best_of_each_family(rows: Sequence[Row], *, maximize: bool) -> list[Row]:
    """One row a family, in the order in which the families first appear. Pruned trials never compete."""
    best: dict[str, Row] = {}
    for row in rows:
        if row.state == "COMPLETE" and row.value is not None:
            rival = best.get(row.family)
            if (
                rival is None
                or rival.value is None
                or (row.value > rival.value if maximize else row.value < rival.value)
            ):
                best[row.family] = row
    return list(best.values())
