"""All that a study has found, as a plain value: no torch, no optuna."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite

from search.spec.study_spec import StudySpec
from search.spec.values import Size
from search.storage.location import StudyLocation
from search.verdict.metric import Metric, metric_of
from search.verdict.race import Course, Field, Place, kept, race
from search.verdict.rows import Row
from strategies import FreezingStrategy


@dataclass(frozen=True, kw_only=True, eq=False)
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
    baselines: strategies that everybody would try.
    portfolio: strategies that did well on other tasks.
    together: sizes that race together where no race has begun; empty for all that have trials.
    extension: how often labels were added; confirm trials in `rows` are those that drew from all of them.
    plan: exploring trials and repeats for which a run's time limit leaves room.
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
    portfolio: tuple[FreezingStrategy, ...] = ()
    together: frozenset[int] = frozenset()
    extension: int = 0
    earlier: tuple["Results", ...] = ()
    plan: tuple[int, int] | None = None

    def with_budget(self, trials: int, repeats: int) -> "Results":
        """Return the study with other budgets."""
        return replace(self, spec=self.spec.changed(search={"trials": trials}, confirm={"repeats": repeats}))

    def planned(self, spec: StudySpec) -> "Results":
        """Return the study with this spec's budgets, as far as the plan allows."""
        return replace(self, spec=spec.within(self.plan))

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
        """Check that the size is explored to the budget."""
        explored = self.explored(size)
        enough = size in self.unexplored or len(explored) >= self.spec.search.trials
        return enough and all(row.is_finished for row in explored)

    def raced_with(self, size: int) -> frozenset[int]:
        """Return the sizes whose runs inform a size's race, as its judged trials stored them.

        So a size that is added later changes no race that has begun.
        """
        stored = next((row.raced_with for row in self.rows if row.judged and row.size == size and row.raced_with), ())
        return frozenset(stored or self.together or self.sizes) | {size}

    def eligible(self, size: int) -> list[FreezingStrategy]:
        """Return the strategies that may race at a size, in order.

        They are what it has explored, or baselines and portfolio, and then what the other sizes found, nearest first.
        """
        others = sorted(self.raced_with(size) - {size}, key=lambda other: (abs(other - size), other))
        found = [row.strategy for one in (size, *others) for row in self.explored(one) if row.final_value is not None]
        opening = [*self.baselines, *self.portfolio] if size in self.unexplored else []
        return [*dict.fromkeys([*opening, *found])]

    def candidates(self, size: int) -> list[FreezingStrategy]:
        """Return the candidates once they are known; [] before."""
        needed = self.needed_confirm_trials(size)
        return [one for one in self.eligible(size) if (one, 1) in needed]

    def confirmed(self, size: int) -> list[Row]:
        """Return the confirm trials of the size's present candidates; former candidates no longer count."""
        candidates = {*self.candidates(size)}
        return [row for row in self.rows if row.judged and row.size == size and row.strategy in candidates]

    def ended(self, size: int) -> dict[Place, Row]:
        """Return the size's confirm trials that have ended, by their places."""
        judged = (row for row in self.rows if row.judged and row.size == size)
        return {(row.strategy, row.repeat): row for row in judged if row.is_finished}

    def needed_confirm_trials(self, size: int) -> frozenset[Place]:
        """Return the confirm trials that the size needs, as far as known now."""
        return self._course(size).needed

    def most_confirms(self, size: int) -> int:
        """Return the largest number of confirm trials the size may take."""
        return len(self.needed_confirm_trials(size)) if self.is_confirmed(size) else sum(self.whole_rounds(size))

    def rounds(self, size: int) -> list[int]:
        """Return the confirm trials that each repeat still takes, or at most takes."""
        course, ended, left = self._course(size), self.ended(size), self.whole_rounds(size)
        for repeat in range(1, course.decided + 1):
            needed = {place for place in course.needed if place[1] == repeat}
            left[repeat - 1] = len(needed - ended.keys())
        for repeat in range(course.decided + 1, len(left) + 1):
            left[repeat - 1] = max(left[repeat - 1] - sum(place[1] == repeat for place in ended), 0)
        return left

    def whole_rounds(self, size: int) -> list[int]:
        """Return the confirm trials that each repeat takes, at most, if none has run."""
        is_searched = size not in self.unexplored
        most = max(len(self.eligible(size)), self.spec.search.trials * is_searched)
        return [min(most, kept(repeat, searched=is_searched)) for repeat in range(1, self.spec.confirm.repeats + 1)]

    def is_confirmed(self, size: int) -> bool:
        """Check that every confirm trial that the verdict needs has ended."""
        course = self._course(size)
        is_over = course.decided == self.spec.confirm.repeats and course.needed <= self.ended(size).keys()
        return bool(course.needed) and is_over

    def is_finished(self, sizes: Sequence[Size]) -> bool:
        """Check that these sizes are explored to the budget and, with complete trials, confirmed."""
        numbers = [self.size(size) for size in sizes]
        return all(
            size > 0 and self.is_explored(size) and (self.is_confirmed(size) or self._nothing_to_confirm(size))
            for size in numbers
        )

    def _nothing_to_confirm(self, size: int) -> bool:
        return self.spec.confirm.repeats == 0 or not self.eligible(size)

    def _course(self, size: int) -> Course:
        return self._race.get(size, Course())

    @cached_property
    def _race(self) -> dict[int, Course]:
        sizes = {*self.sizes, *self.together}
        return race({size: self._field(size, sizes) for size in sorted(sizes)}, repeats=self.spec.confirm.repeats)

    def _field(self, size: int, sizes: set[int]) -> Field:
        families = {one: str(one.family(self.num_groups)) for one in self.eligible(size)}
        sign = self.metric.sign
        first = reversed(self.explored(size))  # of two trials of a strategy the first counts
        scores = {(row.strategy, 0): sign * value for row in first if (value := row.final_value) is not None}
        scores |= {place: sign * self._raced_score(row) for place, row in self.ended(size).items()}
        return Field(
            eligible=families,
            scores=scores,
            pooled=self.raced_with(size) & sizes,
            searched=size not in self.unexplored,
            explored=self.is_explored(size),
        )

    def _raced_score(self, row: Row) -> float:
        """Return what the race sees of a confirm trial; NaN where it failed.

        That is the test score where too few labels are left to search by. It is, too, where a module of the user's own
        logs no score in validation.
        """
        test = row.test_score(self.metric)
        validated = None if row.size in self.unexplored else row.scores.get(self.metric.validated)
        return test if validated is None or not isfinite(test) else validated
