"""All that a study has found, as a plain value: no torch, no optuna."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from search.spec.study_spec import StudySpec
from search.storage.location import StudyLocation
from search.verdict import confirm
from search.verdict.confirm import HEAD_TO_HEAD_REPEATS
from search.verdict.metric import Metric, metric_of
from search.verdict.race import Place
from search.verdict.rows import Row


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
    def metric(self) -> Metric:
        """The metric by which strategies are searched and judged."""
        return metric_of(self.spec.task.metric, self.kind)

    @property
    def sizes(self) -> list[int]:
        return sorted({row.size for row in self.rows})

    def explored(self, size: int) -> list[Row]:
        """Return the size's exploring trials."""
        return [row for row in self.rows if row.size == size and not row.confirms]

    def nominees(self, size: int) -> list[tuple[Row, ...]]:
        """Return the families' nominees once the size is explored to its budget; [] before."""
        explored = self.explored(size)
        if len(explored) < self.spec.search.trials or not all(row.is_finished for row in explored):
            return []
        return confirm.nominees(explored, metric=self.metric)

    def confirmed(self, size: int) -> list[Row]:
        """Return the confirm trials of the size's present nominees; former nominees no longer count."""
        numbers = {row.number for family in self.nominees(size) for row in family}
        return [row for row in self.rows if row.size == size and row.source_trial in numbers]

    def candidates(self, size: int) -> list[Row]:
        """Return one exploring trial a family, once the size is explored."""
        return confirm.candidates(self.nominees(size), self.confirmed(size), spec=self.spec, metric=self.metric)

    def needed_confirm_trials(self, size: int) -> set[Place]:
        """Return the confirm trials that the size needs, as (source_trial, repeat)."""
        nominees, confirmed = self.nominees(size), self.confirmed(size)
        return confirm.needed_confirm_trials(nominees, confirmed, spec=self.spec, metric=self.metric)

    def most_confirms(self, size: int, *, families: int) -> int:
        """Return the largest number of confirm trials the size may take.

        families: how many families to expect while the size is not explored.
        """
        repeats, nominees = self.spec.confirm.repeats, self.nominees(size)
        head_to_head = min(HEAD_TO_HEAD_REPEATS, repeats)
        if not nominees:  # each will be a trial of its own
            trials = self.spec.search.trials
            through = min(families, trials)
            return through * repeats + (min(2 * families, trials) - through) * head_to_head
        ended = Counter(row.source_trial for row in self.confirmed(size) if row.is_finished)
        if self.is_confirmed(size):
            return ended.total()
        candidates = {row.number for row in self.candidates(size)}
        lost = [row.number for family in nominees for row in family if row.number not in candidates]
        return len(nominees) * repeats + sum(max(ended[number], head_to_head) for number in lost)

    def is_confirmed(self, size: int) -> bool:
        """Check that every confirm trial that the verdict needs has ended."""
        ended = confirm.ended(self.confirmed(size)).keys()
        return bool(self.candidates(size)) and self.needed_confirm_trials(size) <= ended

    def is_finished(self, sizes: Sequence[int]) -> bool:
        """Check that these sizes are explored to the budget and, with complete trials, confirmed."""
        return all(
            len(self.explored(size)) >= self.spec.search.trials
            and all(row.is_finished for row in self.explored(size))
            and (not self.candidates(size) or self.is_confirmed(size))
            for size in sizes
        )
