"""Splits: the examples that train, validate and test in one repeat at one size."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from search.data.examples import TaskData
from search.errors import TaskError
from search.spec.values import Size

Indices = NDArray[np.int64]

FOLDS = 5
"""Parts of a cross-validation; fewer where all groups, or the largest class, are fewer."""
MIN_EXPLORED_CROSS_VALIDATED = 700
"""Fewest labels, or groups, that are explored in cross-validation.

The explored labels test later. From 700 on that raises the score of what was found on them by at most half a point
(`python -m tests.simulation explored`).
"""
GROUPED_SHUFFLES = 4
"""Shuffles of which the largest part decides "all": groups make parts of unlike sizes.

Later ones are shuffled again until they leave as many.
"""
MIN_VALIDATION = 50
VALIDATION_SHARE = 0.75
"""Labels that validate: the fewest, and the share of an epoch's examples."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """One repeat's examples at one size, as indices through `TaskData.parts`.

    train: (n,) in the order of the draw, so that those of a smaller size come first.
    validate: (V,) labels that this repeat did not draw, or the data's own; the same for all strategies.
    test: (T,) examples that judge.
    groups: (N,) group number of each of all examples; None without groups. No group is in two of the three.
    """

    train: Indices
    validate: Indices
    test: Indices
    groups: Indices | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Splits:
    """All splits of a task: held-out, cross-validated or the data's own, by groups or not.

    labels: of the pool: classes (P,), or numbers (P,) or (P, K), which count as one class.
    validation, test: numbers of the data's own validation examples, and of test examples.
    cross_validated: the pool's parts in turn are the test set.
    groups: (N,) group number of each of all examples.
    epoch_examples: examples that an epoch trains on; None for a pass over the training set.
    """

    labels: NDArray[np.int64] | NDArray[np.float32]
    validation: int
    test: int
    seed: int
    cross_validated: bool = False
    groups: Indices | None = None
    epoch_examples: int | None = None
    _draws: dict[int, tuple[Indices, Indices]] = field(default_factory=dict, repr=False)
    _folds: dict[int, list[Indices]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, data: TaskData, *, seed: int, epoch_examples: int | None) -> "Splits":
        """Return the splits of that data."""
        groups = [part.groups for part in data.parts.values() if len(part)]
        return cls(
            labels=data.pool.targets.numpy(),
            validation=0 if data.validation is None else len(data.validation),
            test=len(data.test),
            seed=seed,
            cross_validated=data.cross_validated,
            groups=None if groups[0] is None else np.concatenate([part.numpy() for part in groups if part is not None]),
            epoch_examples=epoch_examples,
        )

    @property
    def all(self) -> int:
        """The largest size: every label that a repeat may draw."""
        if not self.cross_validated:
            return len(self.labels)
        shuffles = 1 if self.groups is None else GROUPED_SHUFFLES
        return min(len(self.labels) - len(fold) for shuffle in range(shuffles) for fold in self._folds_of(shuffle))

    def sizes(self, wanted: Sequence[Size]) -> list[int]:
        """Return these sizes as numbers, ascending. Raises `TaskError` for one given twice."""
        found = sorted(self.all if size == "all" else size for size in wanted)
        for one, other in pairwise(found):
            if one == other:
                raise TaskError(f"[task] sizes: {one} is what there is, so it is given twice; leave one out.")
        return found

    def explores(self, size: int) -> bool:
        """Check that a size leaves labels to search by: 50, and a fifth of it.

        In cross-validation there must be enough labels in all.
        """
        drawn = self.labels if self.groups is None else np.unique(self.groups[: len(self.labels)])
        if self.cross_validated and len(drawn) < MIN_EXPLORED_CROSS_VALIDATED:
            return False
        return len(self.split(repeat=0, size=size).validate) >= min(max(MIN_VALIDATION, size // 5), self._wanted(size))

    def split(self, *, repeat: int, size: int) -> Split:
        """Return a repeat's split at a size: nested, each repeat another draw."""
        order, test = self._draw(repeat)
        train = order[:size]
        count = self._wanted(size)
        if self.validation:
            own = np.arange(len(self.labels), len(self.labels) + self.validation)
            validate = np.random.default_rng([self.seed, 0]).permutation(own)[:count]
        else:
            rest = order[size:]
            if self.groups is not None:  # the rest of the group that is cut is of no use
                rest = rest[~np.isin(self.groups[rest], self.groups[train])]
            validate = rest[::-1][:count]  # from the end, so that all sizes have the same ones
        return Split(train=train, validate=validate, test=test, groups=self.groups)

    def tested(self, data: TaskData) -> list[NDArray[np.generic]]:
        """Return the targets of each test set: the data's, or those of a cross-validation's parts."""
        if not self.cross_validated:
            return [data.test.targets.numpy()]
        return [self.labels[fold] for shuffle in (0, 1) for fold in self._folds_of(shuffle)]

    @property
    def first_judging(self) -> int:
        """The first index of the part that tests: the pool's in cross-validation."""
        return 0 if self.cross_validated else len(self.labels) + self.validation

    def _wanted(self, size: int) -> int:
        return max(MIN_VALIDATION, int(VALIDATION_SHARE * (self.epoch_examples or size)))

    def _draw(self, repeat: int) -> tuple[Indices, Indices]:
        """Return a repeat's order of the labels that it may draw, and its test examples."""
        if repeat not in self._draws:
            labels = strata(self.labels)
            test = np.arange(self.first_judging, self.first_judging + self.test)
            pool = np.arange(len(labels))
            if self.cross_validated:
                # Repeats 1, 2, ... share a shuffle, so that they test each label equally often; 0 has its own.
                shuffle, fold = divmod(repeat - 1, len(self._folds_of(0)))
                test = self._folds_of(shuffle + 1)[fold]
                pool = np.setdiff1d(pool, test)
            groups = None if self.groups is None else self.groups[pool]
            rng = np.random.default_rng([self.seed, repeat])
            self._draws[repeat] = pool[draw_order(labels[pool], rng=rng, groups=groups)], test
        return self._draws[repeat]

    def _folds_of(self, shuffle: int) -> list[Indices]:
        if shuffle not in self._folds:
            labels = strata(self.labels)
            groups = None if self.groups is None else self.groups[: len(labels)]
            seeds = [[self.seed, shuffle]]
            if late := groups is not None and shuffle >= GROUPED_SHUFFLES:
                seeds += [[self.seed, shuffle, attempt] for attempt in range(GROUPED_SHUFFLES)] + [[self.seed, 0]]
            cut = (cut_folds(labels, seed=seed, groups=groups) for seed in seeds)
            self._folds[shuffle] = next(
                folds for folds in cut if not late or len(labels) - max(map(len, folds)) >= self.all
            )
        return self._folds[shuffle]


def strata(labels: NDArray[np.int64] | NDArray[np.float32]) -> Indices:
    """Return classes (N,); the numbers of regression, (N,) or (N, K), are one class."""
    return np.zeros(len(labels), dtype=np.int64) if labels.dtype.kind == "f" else np.asarray(labels, dtype=np.int64)


def draw_order(labels: Indices, *, rng: np.random.Generator, groups: Indices | None = None) -> Indices:
    """Return an order of all labels; every beginning and every end of it is stratified.

    One label of every class comes first. Then the class furthest behind its share is next: Webster's apportionment,
    which takes no label back as the size grows. Groups (N,) come whole, in random order, those first that bring
    a class that none before them has.
    """
    if groups is not None:
        return _draw_groups(labels, groups, rng)
    keys = np.empty(len(labels))
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        rank = np.arange(len(members))
        keys[members] = np.where(rank < 1, -1.0, (rank + 0.5) / len(members))
    return np.lexsort((rng.permutation(len(labels)), keys))


def _draw_groups(labels: Indices, groups: Indices, rng: np.random.Generator) -> Indices:
    _, counts = np.unique(groups, return_counts=True)
    each = np.split(np.argsort(groups, kind="stable"), np.cumsum(counts)[:-1])
    members = [each[place] for place in rng.permutation(len(each))]
    first: list[Indices] = []
    later: list[Indices] = []
    seen: set[int] = set()
    for group in members:
        new = set(labels[group].tolist()) - seen
        seen |= new
        (first if new else later).append(rng.permutation(group))
    return np.concatenate([*first, *later])


def cut_folds(labels: Indices, *, seed: list[int], groups: Indices | None = None) -> list[Indices]:
    """Cut all labels into `FOLDS` parts, stratified, each group whole.

    The labels of a rare class are in parts of their own, so that it trains in each. Few groups make fewer parts.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    state = int(np.random.SeedSequence(seed).generate_state(1)[0])
    parts = len(labels) if groups is None else len(np.unique(groups))
    folds = max(2, min(FOLDS, parts, int(np.bincount(labels).max())))
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a class with fewer labels than parts
        cutter = kind(folds, shuffle=True, random_state=state)
        return [test for _, test in cutter.split(labels, labels, groups)]
