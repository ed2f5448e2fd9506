"""Nested, stratified subsets of the pool: the 50 are among the 100."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.errors import TaskError

VALIDATION_SHARE = 0.2
MIN_REGRESSION_SIZE = 10
"""The smallest size for regression: eight to train on, two to validate with."""


@dataclass(frozen=True, slots=True, eq=False)
class SubsetOrder:
    """One order of the pool: its first n labels are the subset of size n.

    order: indices into the pool (N,).
    validates: which of them are validation examples (N,); the others are for training.
    """

    order: NDArray[np.int64]
    validates: NDArray[np.bool_]

    def split(self, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return indices of the training and of the validation examples at that size."""
        order, validates = self.order[:size], self.validates[:size]
        return order[~validates], order[validates]


def draw_order(labels: NDArray[np.int64] | NDArray[np.float32], *, seed: int, repeat: int) -> SubsetOrder:
    """Draw repeat number `repeat`: stratified at every size, training and validation sets nested separately.

    Two labels of every class come first, one to train on and one to validate with. Then the class
    furthest behind its share of the pool is next: Webster's apportionment, which takes no label back as the size
    grows. Within a class, a fifth of the labels validate, at least one. The numbers of regression, (N,) or
    (N, K), are one class.
    """
    if labels.dtype.kind == "f":
        labels = np.zeros(len(labels), dtype=np.int64)
    rng = np.random.default_rng([seed, repeat])
    keys = np.empty(len(labels))
    validates = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        rank = np.arange(len(members))
        keys[members] = np.where(rank < 2, rank - 2, (rank + 0.5) / len(members))
        wanted = np.maximum(1, np.floor(VALIDATION_SHARE * (rank + 1) + 0.5))
        validates[members] = np.diff(wanted, prepend=0) > 0
    tie_break = rng.permutation(len(labels))
    order = np.lexsort((tie_break, keys))
    return SubsetOrder(order, validates[order])


def check_sizes(labels: NDArray[np.int64] | NDArray[np.float32], sizes: list[int], *, classes: Sequence[str]) -> None:
    """Check that each size fits the pool and has two labels a class. Raises `TaskError`.

    classes: their names, none for regression.
    """
    least, reason = MIN_REGRESSION_SIZE, ""
    if labels.dtype.kind != "f":
        if len(classes) < 2:
            raise TaskError("[task] data: all examples are of one class; at least 2 classes are needed.")
        counts = np.bincount(labels, minlength=len(classes))
        if counts.min() < 2:
            rarest = f"class {classes[int(counts.argmin())]!r} has {counts.min()} labels in the pool"
            raise TaskError(f"[task] data: {rarest}; each class needs at least 2.")
        least, reason = 2 * len(classes), f" (two labels for each of {len(classes)} classes)"
    for size in sizes:
        if not least <= size <= len(labels):
            allowed = f"{least}{reason} to {len(labels)} (the pool)"
            raise TaskError(f"[task] sizes: {size} is not possible; allowed: {allowed}.")
