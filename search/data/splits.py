"""Which examples a task is made of: a slice of the data, the classes it tells apart, and a test set held out."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from search.data.examples import Examples, TaskData
from search.errors import TaskError

Share = Annotated[float, Field(ge=0, lt=1)]
Test = Share | str | None
"""How a task gets its test set: a share to hold out, the path of test data, or None for what is usual."""

Part = Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=2, max_length=2)]
"""A slice of a fixed shuffle, [from, to] as shares of it: [0, 0.5] and [0.5, 1] are two halves."""

Classes = dict[str, list[int | str]]
"""Old classes, by name or by number, under the names of new ones; examples of classes not named are dropped."""

HOLD_OUT = 0.2
_PART, _TEST = 1, 2  # streams of random numbers


def apply_splits(
    data: TaskData, *, where: str, part: Part | None = None, classes: Classes | None = None, hold_out: float = 0.0
) -> TaskData:
    """The data with a slice taken, then classes chosen, then a test set held out of the pool.

    The slice depends on nothing but the number of examples, so tasks with disjoint slices of the same data share
    no example, whatever their labels, classes and test sets. A test set that the data bring stays whole.
    Raises `TaskError`.
    """
    if part is not None:
        data = replace(data, pool=data.pool.subset(_slice(len(data.pool), part, where=where)))
    if classes is not None:
        data = _regrouped(data, classes, where=where)
    if hold_out:
        pool, test = _held_out(_strata(data), hold_out)
        if len(test) == 0 or len(pool) == 0:
            raise TaskError(f"{where}: option test = {hold_out} of {len(data.pool)} examples leaves none on one side.")
        data = replace(data, pool=data.pool.subset(pool), test=data.pool.subset(test))
    return data


def share(test: Test, *, own: bool, where: str) -> float:
    """The share to hold out, where the data do or don't bring a test set of their `own`. Raises `TaskError`."""
    if not own:
        return HOLD_OUT if test is None else float(test)
    if test is not None:
        raise TaskError(f"{where}: option test = {test!r}, but these data have a test set of their own; leave it out.")
    return 0.0


def class_indices(labels: list[str], *, names: tuple[str, ...] | None = None) -> tuple[Tensor, tuple[str, ...]]:
    """Class indices (N,) of labels, and the classes: the labels sorted, by number where all are whole numbers.

    With `names` those are the classes; a label that is not among them raises `KeyError`.
    """
    if names is None:
        distinct = set(labels)
        try:
            names = tuple(sorted(distinct, key=int))
        except ValueError:
            names = tuple(sorted(distinct))
    index = {name: number for number, name in enumerate(names)}
    return torch.tensor([index[label] for label in labels], dtype=torch.int64), names


def _strata(data: TaskData) -> NDArray[np.int64]:
    targets = data.pool.targets
    return targets.numpy() if data.classes else np.zeros(len(targets), dtype=np.int64)


def _slice(count: int, part: Part, *, where: str) -> Tensor:
    start, end = (int(at * count + 0.5) for at in part)
    if start >= end:
        raise TaskError(f"{where}: option part = {part} has no examples; allowed: [from, to] with from < to.")
    # Not stratified: with strata, the same example would fall into other slices under other labels.
    return torch.from_numpy(np.sort(np.random.default_rng(_PART).permutation(count)[start:end]))


def _held_out(strata: NDArray[np.int64], held: float) -> tuple[Tensor, Tensor]:
    """Indices of the pool and of the test set; a class keeps two labels for the pool where it can."""
    rng, tests = np.random.default_rng(_TEST), []
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        wanted = max(1, int(held * len(members) + 0.5))
        tests.append(members[: max(0, min(wanted, len(members) - 2))])
    test = np.sort(np.concatenate(tests))
    pool = np.setdiff1d(np.arange(len(strata)), test)
    return torch.from_numpy(pool), torch.from_numpy(test)


def _regrouped(data: TaskData, groups: Mapping[str, list[int | str]], *, where: str) -> TaskData:
    if not data.classes:
        raise TaskError(f"{where}: option classes is for classification; the targets here are numbers.")
    if len(groups) < 2:
        raise TaskError(f"{where}: option classes names {len(groups)} classes; at least 2 are needed.")
    new = torch.full((len(data.classes),), -1)
    for number, (name, members) in enumerate(groups.items()):
        for member in members:
            old = _find(member, data.classes)
            if old is None:
                known = ", ".join(data.classes[:20]) + (", ..." if len(data.classes) > 20 else "")
                raise TaskError(f"{where}: option classes: {name} = {member!r} is no class; allowed: {known}.")
            if new[old] >= 0:
                raise TaskError(f"{where}: option classes: {member!r} stands in two places; each class may once.")
            new[old] = number

    def chosen(examples: Examples) -> Examples:
        targets = new[examples.targets]
        kept = torch.nonzero(targets >= 0).squeeze(1)
        return replace(examples.subset(kept), targets=targets[kept])

    return replace(data, pool=chosen(data.pool), test=chosen(data.test), classes=tuple(groups))


def _find(member: int | str, classes: tuple[str, ...]) -> int | None:
    # By name first, so that 1 means the label "1" where the labels are numbers, whichever they start with.
    if str(member) in classes:
        return classes.index(str(member))
    return member if isinstance(member, int) and 0 <= member < len(classes) else None
