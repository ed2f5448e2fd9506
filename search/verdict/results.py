"""All that a study has found, as a plain value: no torch, no optuna."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from search.spec.study_spec import StudySpec
from search.spec.values import Size
from search.storage.location import StudyLocation
from search.verdict import confirm
from search.verdict.metric import Metric, metric_of
from search.verdict.race import Place
from search.verdict.rows import Row
from strategies import FreezingStrategy


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Results:
    """All that a study has found so far, and the spec it was run with.

    kind: "classification" or "regression".
    own_metric: the user's own module logs the scores.
    groups: the layer groups' names, input side first; empty where they are not stored.
    flops: operations of one example's forward pass in each layer group, then in the head; empty if unknown.
    labels: that repeats draw from; 0 where that is not known.
    all: "all" as a number; 0 where that is not known.
    cross_validated: the labels in turn are the test set.
    unexplored: sizes at which too few labels are left to search by.
    baselines: candidates at those sizes.
    extension: how often labels were added; confirm trials in `rows` are those that drew from all of them.
    earlier: the study as it was before each extension, with the rows of its own.
    """

    location: StudyLocation
    spec: StudySpec
    num_groups: int
    rows: tuple[Row, ...]
    kind: str = "classification"
    own_metric: bool = False
    groups: tuple[str, ...] = ()
    flops: tuple[int, ...] = ()
    labels: int = 0
    all: int = 0
    cross_validated: bool = False
    unexplored: frozenset[int] = frozenset()
    baselines: tuple[FreezingStrategy, ...] = ()
    extension: int = 0
    earlier: tuple["Results", ...] = ()

    @property
    def views(self) -> Iterator["Results"]:
        """The study by each number of labels that repeats have drawn from, newest first."""
        yield self
        yield from reversed(self.earlier)

    def view(self, extension: int) -> "Results":
        """Return the study as of that extension."""
        return next(one for one in self.views if one.extension == extension)

    @property
    def every_row(self) -> list[Row]:
        """All trials, also those that count no more after labels were added."""
        explored = {row.size for row in self.rows if not row.judged}
        rows = (row for view in self.earlier for row in view.rows if row.extension == view.extension)
        return [*self.rows, *(row for row in rows if row.judged or row.size not in explored)]

    @property
    def metric(self) -> Metric:
        """The metric by which strategies are judged."""
        return metric_of(self.spec.task.metric, self.kind, own=self.own_metric)

    @property
    def sizes(self) -> list[int]:
        return sorted({row.size for row in self.rows})

    def size(self, wanted: Size) -> int:
        """Return a size as a number; 0 for "all" while the data were never loaded."""
        return self.all if wanted == "all" else wanted

    def explored(self, size: int) -> list[Row]:
        """Return the size's exploring trials, also those from before labels were added."""
        return [row for row in self.rows if row.size == size and not row.judged]

    def is_explored(self, size: int) -> bool:
        """Check that the size that finds its candidates is explored to the budget."""
        searched = self._searched(size)
        if searched is None:
            return True
        explored = self.explored(searched)
        return len(explored) >= self.spec.search.trials and all(row.is_finished for row in explored)

    def candidates(self, size: int) -> list[FreezingStrategy]:
        """Return the candidates once they are known; [] before."""
        if not self.is_explored(size):
            return []
        searched = self._searched(size)
        explored = [] if searched is None else self.explored(searched)
        if size not in self.unexplored:
            return confirm.candidates(explored, metric=self.metric)
        return confirm.unsearched_candidates(self.baselines, explored, metric=self.metric)

    def _searched(self, size: int) -> int | None:
        """Return the size that finds its candidates: itself, or the next smaller with trials."""
        if size not in self.unexplored:
            return size
        return max((row.size for row in self.rows if row.size < size and not row.judged), default=None)

    def confirmed(self, size: int) -> list[Row]:
        """Return the confirm trials of the size's present candidates; former candidates no longer count."""
        candidates = {*self.candidates(size)}
        return [row for row in self.rows if row.judged and row.size == size and row.strategy in candidates]

    def needed_confirm_trials(self, size: int) -> set[Place]:
        """Return the confirm trials that the size needs."""
        confirmed = self.confirmed(size)
        return confirm.needed_confirm_trials(self.candidates(size), confirmed, spec=self.spec, metric=self.metric)

    def most_confirms(self, size: int, *, families: int) -> int:
        """Return the largest number of confirm trials the size may take.

        families: how many families to expect while the size is not explored.
        """
        if self.is_confirmed(size):
            return sum(row.is_finished for row in self.confirmed(size))
        most = min(2 * families, self.spec.search.trials)
        if size in self.unexplored:
            most = len(self.baselines) + families
        known = len(self.candidates(size)) if self._searched(size) is not None else 0
        return (known or most) * self.spec.confirm.repeats

    def is_confirmed(self, size: int) -> bool:
        """Check that every confirm trial that the verdict needs has ended."""
        ended = confirm.ended(self.confirmed(size)).keys()
        return bool(self.candidates(size)) and self.needed_confirm_trials(size) <= ended

    def is_finished(self, sizes: Sequence[Size]) -> bool:
        """Check that these sizes are explored to the budget and, with complete trials, confirmed."""
        numbers = [self.size(size) for size in sizes]
        return all(
            size > 0 and self.is_explored(size) and (not self.candidates(size) or self.is_confirmed(size))
            for size in numbers
        )
