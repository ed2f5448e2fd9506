"""What a study has found, as plain values: no torch, no optuna."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan
from typing import Any

from numpy.typing import NDArray

from search.spec.study_spec import StudySpec
from search.storage.location import Home
from search.verdict.confirm import PLAY_OFF, Place, goes_on, wanted
from search.verdict.metric import MEASURES, Measure
from strategies import FreezingStrategy


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """One trial. `curve` has (epoch, value of the metric that steers); what is not known yet is None or empty.

    `learned_at` is the smaller size at which it was its family's best, where that is why it was tried.
    `explored` is, for a confirm trial, the number of the exploring trial whose strategy it runs again; `outcomes`
    is its file's name, and `outcome` (N,) what that says of each test example: whether it is right, or its
    squared error. `test_se` is the standard error of a mean squared error over test examples.
    """

    number: int
    state: str
    size: int
    chain: int
    strategy: FreezingStrategy
    family: str
    value: float | None
    best_epoch: int | None
    epochs: int | None
    seconds: float | None
    trainable_parameters: int | None
    seed: int | None
    curve: tuple[tuple[int, float], ...]
    anchor: bool
    learned_at: int | None = None
    explored: int | None = None
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
    outcomes: str | None = None
    outcome: NDArray[Any] | None = None

    @property
    def confirms(self) -> bool:
        return self.explored is not None

    @property
    def is_finished(self) -> bool:
        return self.state in ("COMPLETE", "PRUNED", "FAIL")

    def has_score(self, measure: Measure) -> bool:
        """Whether it is complete, with a finite score of this measure."""
        score = getattr(self, measure.attribute)
        return self.state == "COMPLETE" and score is not None and isfinite(score)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Results:
    """All that a study has found so far, and the spec it was run with.

    kind: "classification" or "regression".
    groups: the layer groups' names, input side first; empty where they are not stored.
    """

    home: Home
    spec: StudySpec
    num_groups: int
    rows: tuple[Row, ...]
    kind: str = "classification"
    groups: tuple[str, ...] = ()

    @property
    def measure(self) -> Measure:
        """What its strategies are judged by."""
        return MEASURES[self.kind]

    @property
    def sizes(self) -> list[int]:
        return sorted({row.size for row in self.rows})

    def explored(self, size: int) -> list[Row]:
        return [row for row in self.rows if row.size == size and not row.confirms]

    def confirmed(self, size: int) -> list[Row]:
        """The confirm trials of the size's present entrants; those of former ones count no more."""
        numbers = {row.number for family in self.entrants(size) for row in family}
        return [row for row in self.rows if row.size == size and row.explored in numbers]

    def entrants(self, size: int) -> list[tuple[Row, ...]]:
        """Whom each family may send to the final, once the size is explored to its budget; else none."""
        explored = self.explored(size)
        if len(explored) < self.spec.search.trials or not all(row.is_finished for row in explored):
            return []
        return entrants(explored, maximize=self.spec.task.direction == "maximize")

    def finalists(self, size: int) -> list[Row]:
        """One of each family, once the size is explored: who won its play-off, and until that its best trial."""
        return finalists(self.entrants(size), self.confirmed(size), spec=self.spec)

    def wanted(self, size: int) -> set[Place]:
        """The confirm trials that the size needs, as far as can be told now: (explored, chain)."""
        return wanted_confirms(self.entrants(size), self.confirmed(size), spec=self.spec, measure=self.measure)

    def most_confirms(self, size: int, *, families: int) -> int:
        """So many confirm trials the size comes to at the most; of so many families, until it is explored."""
        chains, entrants = self.spec.confirm.chains, self.entrants(size)
        play_off = min(PLAY_OFF, chains)
        if not entrants:  # each is a trial of its own
            trials = self.spec.search.trials
            through = min(families, trials)
            return through * chains + (min(2 * families, trials) - through) * play_off
        ended = Counter(row.explored for row in self.confirmed(size) if row.is_finished)
        if self.is_confirmed(size):
            return ended.total()
        finalists = {row.number for row in self.finalists(size)}
        lost = [row.number for family in entrants for row in family if row.number not in finalists]
        return len(entrants) * chains + sum(max(ended[number], play_off) for number in lost)

    def is_confirmed(self, size: int) -> bool:
        """Whether every confirm trial that its verdict needs has ended."""
        done = {(row.explored, row.chain) for row in self.confirmed(size) if row.is_finished}
        return bool(self.finalists(size)) and self.wanted(size) <= done

    def is_finished(self, sizes: Sequence[int]) -> bool:
        """Whether these sizes are explored to the budget, and confirmed where anything was complete."""
        return all(
            len(self.explored(size)) >= self.spec.search.trials
            and all(row.is_finished for row in self.explored(size))
            and (not self.finalists(size) or self.is_confirmed(size))
            for size in sizes
        )


def entrants(rows: Sequence[Row], *, maximize: bool) -> list[tuple[Row, ...]]:
    """By family its best trial and, where that is another strategy, its best anchor.

    The best of many trials on a few validation examples is lucky, and the more so the more there are: in replayed
    studies (`python -m tests.replay picks`) more exploring brings next to nothing without this second look at it,
    beside what everybody would try.
    """
    anchors = {row.family: row for row in best_of_each_family([r for r in rows if r.anchor], maximize=maximize)}
    found = [(row, anchors.get(row.family, row)) for row in best_of_each_family(rows, maximize=maximize)]
    return [(best,) if best.strategy == anchor.strategy else (best, anchor) for best, anchor in found]


def finalists(entrants: Iterable[Sequence[Row]], confirmed: Iterable[Row], *, spec: StudySpec) -> list[Row]:
    """Of each family's entrants the one that won the play-off; the first of them while that is not decided."""
    sign = -1 if spec.task.direction == "maximize" else 1
    values = {
        (row.explored, row.chain): sign * row.value if row.state == "COMPLETE" and row.value is not None else inf
        for row in confirmed
        if row.explored is not None and row.is_finished
    }
    found = []
    for family in entrants:
        through = goes_on(values, [row.number for row in family], chains=spec.confirm.chains)
        found.append(next((row for row in family if row.number == through), family[0]))
    return found


def wanted_confirms(
    entrants: Sequence[Sequence[Row]], confirmed: Sequence[Row], *, spec: StudySpec, measure: Measure
) -> set[Place]:
    """The confirm trials (explored, chain) that these entrants need, after those that have ended."""
    scores: dict[Place, float] = {}
    for row in confirmed:
        if row.explored is not None and row.is_finished:
            score = measure.sign * getattr(row, measure.attribute) if row.has_score(measure) else nan
            scores[row.explored, row.chain] = score
    first = range(1, min(PLAY_OFF, spec.confirm.chains) + 1)
    play_offs = {(row.number, chain) for family in entrants if len(family) > 1 for row in family for chain in first}
    if not play_offs <= scores.keys():
        return {(row.number, chain) for family in entrants for row in family for chain in first}
    return wanted(
        scores,
        [row.number for row in finalists(entrants, confirmed, spec=spec)],
        chains=spec.confirm.chains,
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
