"""Checks that sizes fit, classes are drawn and tested, and groups are enough."""

from collections.abc import Sequence

import numpy as np

from search.data.examples import TaskData
from search.data.splits import Indices, Splits
from search.errors import TaskError
from search.spec.values import Size

MIN_REGRESSION_SIZE = 10
MIN_GROUPS_CROSS_VALIDATED = 4
DRAWS_LOOKED_AT = 6
"""Repeats whose draws are searched for missing classes."""


def check_sizes(splits: Splits, sizes: Sequence[Size], *, classes: Sequence[str]) -> None:
    """Check that each size fits the labels, and each class has two labels.

    Raises `TaskError`.

    classes: their names, none for regression.
    """
    labels, least, reason = splits.labels, MIN_REGRESSION_SIZE, ""
    if labels.dtype.kind != "f":
        if len(classes) < 2:
            raise TaskError("[task] data: all examples are of one class; at least 2 classes are needed.")
        key = "[task] test = 'cv'" if splits.cross_validated else "[task] data"
        _check_classes(np.bincount(labels, minlength=len(classes)), classes, key=key)
        least, reason = len(classes), f" (one label for each of {len(classes)} classes)"
    for size in splits.sizes(sizes):
        if not least <= size <= splits.all:
            most = "what cross-validation leaves to train on" if splits.cross_validated else "the pool"
            raise TaskError(f"[task] sizes: {size} is not possible; allowed: {least}{reason} to {splits.all} ({most}).")


def _check_classes(counts: Indices, classes: Sequence[str], *, key: str) -> None:
    rare = [f"{name!r} has {count}" for name, count in zip(classes, counts, strict=True) if count < 2]
    if rare:
        which = (
            f"class {rare[0]} label{'' if rare[0].endswith(' 1') else 's'}"
            if len(rare) == 1
            else (f"{len(rare)} classes have too few labels: {', '.join(rare[:20])}{', ...' if len(rare) > 20 else ''}")
        )
        raise TaskError(
            f"{key}: {which} in the pool; each class needs at least 2. "
            "Join classes, or leave some out, by options = { classes = { new_name = [old, ...], ... } }."
        )


def check_groups(splits: Splits, *, where: str) -> None:
    """Check that groups are enough to draw and judge by. Raises `TaskError`.

    where: the key that made the groups, with its value.
    """
    if splits.groups is None:
        return
    parts = splits.groups[: len(splits.labels)], splits.groups[splits.first_judging :]
    count, tested = (len(np.unique(part)) for part in parts)
    found = f"{count} group{'s' * (count != 1)}"
    if splits.cross_validated and count < MIN_GROUPS_CROSS_VALIDATED:
        raise TaskError(f"{where}: {found} to cross-validate; allowed: at least {MIN_GROUPS_CROSS_VALIDATED}.")
    if min(count, tested) < 2:
        raise TaskError(f"{where}: {found} in the pool and {tested} in the test set; allowed: at least 2 in each.")


def missing_classes(splits: Splits, sizes: Sequence[Size], classes: Sequence[str]) -> list[str]:
    """Return a line for each size at which some draws lack a class."""
    lines = []
    for size in splits.sizes(sizes) if splits.groups is not None and classes else ():
        draws = [splits.labels[splits.split(repeat=repeat, size=size).train] for repeat in range(DRAWS_LOOKED_AT)]
        lacking = [sorted({*range(len(classes))} - {*draw.tolist()}) for draw in draws]
        if any(lacking):
            names = ", ".join(classes[label] for label in sorted(set().union(*lacking))[:5])
            lines.append(
                f"at size {size}, {sum(map(bool, lacking))} of the first {len(draws)} draws of whole groups lack a "
                f"class ({names}); larger sizes have more groups."
            )
    return lines


def untested_classes(data: TaskData) -> list[str]:
    """Return a line if the test set lacks classes; in cross-validation all are tested."""
    if not data.classes or not len(data.test):
        return []
    missing = {*range(len(data.classes))} - {*data.test.targets.tolist()}
    if not missing:
        return []
    names = ", ".join(data.classes[label] for label in sorted(missing)[:5]) + (", ..." if len(missing) > 5 else "")
    return [f"the test set has no example of {len(missing)} of {len(data.classes)} classes ({names}): none is scored."]
