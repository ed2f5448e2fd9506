"""Selection from raw data: a slice, chosen classes, a test set held out; standardised numbers."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from search.data.duplicates import marks
from search.data.examples import Examples, RawData, TaskData
from search.data.splits import Indices, draw_order, strata
from search.errors import TaskError

Share = Annotated[float, Field(ge=0, lt=1)]
"""A share to hold out as the test set."""

Part = Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=2, max_length=2)]
"""A slice of a fixed shuffle, as shares: [0, 0.5] is the first half."""

Classes = dict[str, list[int | str]]
"""Old classes, by name or number, under the names of new ones; others are dropped."""

HELD_OUT_SHARE = 0.2
NAMES_SHOWN = 5
"""Groups that an error names."""
MAX_CROSS_VALIDATED = 1000
"""Labels below which data without a test set are by default cross-validated."""
MAX_GROUPS_CROSS_VALIDATED = 100
"""Groups below which data without a test set are by default cross-validated.

An interval at nominal 90 % over the 20 groups of a held-out fifth covers 88 %, over 5 groups 83 % (Student's t).
"""
_PART_SEED, _TEST_SEED = 1, 2


def select(
    raw: RawData,
    *,
    test: Share | Literal["cv"] | None = None,
    part: Part | None = None,
    classes: Classes | None = None,
    standardize: bool = False,
) -> TaskData:
    """Take a slice, then choose classes, hold a test set out of the pool, standardise.

    The slice depends on the number of examples and on their groups alone. So tasks with disjoint slices of the same
    data share no example and no group, whatever their labels, classes and test sets. A test set of the data's own
    stays whole. Raises `TaskError`.
    """
    own = raw.pool.subset(torch.arange(0)) if raw.test is None else raw.test
    data = TaskData(
        pool=raw.pool, test=own, classes=raw.classes, notes=raw.notes, validation=raw.validation, brought=raw.brought
    )
    _check_apart(data.parts, raw)
    if part is not None:
        data = replace(data, pool=data.pool.subset(_slice(data.pool, part)))
    if classes is not None:
        data = _with_classes(data, classes)
    if data.pool.groups is not None and len(data.pool):
        data = replace(data, notes=(*data.notes, _groups_note(data.pool, raw)))
    if test is None and raw.test is None:
        test = "cv" if _are_few(data.pool) else HELD_OUT_SHARE
    check_no_test_set(test, own=raw.test is not None)
    held = 0.0 if raw.test is not None or test is None or test == "cv" else test
    if test == "cv":
        count = (
            f"{len(data.pool)} labels" if data.pool.groups is None else f"{len(torch.unique(data.pool.groups))} groups"
        )
        note = f"{count} and no test set: judged by cross-validation, one part of them at a time."
        data = replace(data, cross_validated=True, notes=(*data.notes, note))
    elif held:
        groups, count = data.pool.groups, f"{len(data.pool)} examples"
        if groups is not None:
            count += f" of {len(torch.unique(groups))} groups"
        pool, holdout = _held_out(strata(data.pool.targets.numpy()), held, None if groups is None else groups.numpy())
        if len(holdout) == 0 or len(pool) == 0:
            raise TaskError(f"test = {held} of {count} leaves none on one side.")
        data = replace(data, pool=data.pool.subset(pool), test=data.pool.subset(holdout))
    data = replace(data, marks=marks(data))  # before they are scaled by what all of them are
    return _standardized(data) if standardize else data


def _check_apart(parts: Mapping[str, Examples], raw: RawData) -> None:
    """Raise `TaskError` for groups of two parts, with their count and first names."""
    names = [] if raw.grouping is None else [*raw.grouping.numbers]
    for (one, examples), (other, others) in combinations(parts.items(), 2):
        if examples.groups is None or others.groups is None:
            continue
        both = np.intersect1d(examples.groups.numpy(), others.groups.numpy()).tolist()
        if both:
            first = ", ".join(str(names[group] if names else group) for group in both[:NAMES_SHOWN])
            count = "1 group is" if len(both) == 1 else f"{len(both)} groups are"
            raise TaskError(
                f"{_groups(raw)}: {count} in the {one} and in the {other} set: {first}"
                f"{', ...' if len(both) > NAMES_SHOWN else ''}; allowed: each in one of them."
            )


def _groups_note(pool: Examples, raw: RawData) -> str:
    assert pool.groups is not None
    groups = len(torch.unique(pool.groups))
    if groups == len(pool):
        return f"{_groups(raw)}: each of {groups} examples is a group of its own, so none are kept together."
    return f"{_groups(raw)}: {len(pool)} examples of {groups} groups, each kept whole in every split."


def _groups(raw: RawData) -> str:
    return "groups" if raw.grouping is None else str(raw.grouping)


def check_no_test_set(test: object, *, own: bool) -> None:
    """Refuse `test` for data with a test set of their `own`. Raises `TaskError`."""
    if own and test:
        raise TaskError(f"test = {test!r}, but these data have a test set of their own; leave it out.")


def _are_few(pool: Examples) -> bool:
    groups = MAX_GROUPS_CROSS_VALIDATED if pool.groups is None else len(torch.unique(pool.groups))
    return len(pool) < MAX_CROSS_VALIDATED or groups < MAX_GROUPS_CROSS_VALIDATED


def part_bounds(part: Part, count: int) -> tuple[int, int]:
    """Return the range of a part among `count` positions. Raises `TaskError` if it is empty."""
    start, end = (int(at * count + 0.5) for at in part)
    if start >= end:
        raise TaskError(f"option part = {part} has no examples; allowed: [from, to] with from < to.")
    return start, end


def _slice(pool: Examples, part: Part) -> Tensor:
    start, end = part_bounds(part, len(pool))
    # Not stratified: with strata, the same example would fall into other slices under other labels.
    rng = np.random.default_rng(_PART_SEED)
    if pool.groups is None:
        return torch.from_numpy(np.sort(rng.permutation(len(pool))[start:end]))
    _, members, sizes = np.unique(pool.groups.numpy(), return_inverse=True, return_counts=True)
    order = rng.permutation(len(sizes))
    starts = np.cumsum(sizes[order]) - sizes[order]  # a group is where its first example would be
    found = np.flatnonzero(np.isin(members, order[(starts >= start) & (starts < end)]))
    if len(found) == 0:
        raise TaskError(f"option part = {part} has none of {len(sizes)} groups, which are kept whole.")
    return torch.from_numpy(found)


def _held_out(strata: Indices, held: float, groups: Indices | None) -> tuple[Tensor, Tensor]:
    """Draw indices of pool and test set. A class keeps two labels for the pool."""
    rng, tests = np.random.default_rng(_TEST_SEED), []
    if groups is not None:
        test = _held_out_groups(strata, held, groups, rng)
    else:
        for stratum in np.unique(strata):
            members = rng.permutation(np.flatnonzero(strata == stratum))
            wanted = max(1, int(held * len(members) + 0.5))
            tests.append(members[: max(0, min(wanted, len(members) - 2))])
        test = np.sort(np.concatenate(tests))
    pool = np.setdiff1d(np.arange(len(strata)), test)
    return torch.from_numpy(pool), torch.from_numpy(test)


def _held_out_groups(strata: Indices, held: float, groups: Indices, rng: np.random.Generator) -> Indices:
    """Draw a test set of whole groups.

    They come in random order, those first that bring a class, as long as they fit. There are two at least, of large
    groups the smallest: one says nothing of how groups differ. Two are left to learn from.
    """
    names, members = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), int(strata.max()) + 1), dtype=np.int64)
    np.add.at(counts, (members, strata), 1)
    sizes, left, chosen = counts.sum(1), counts.sum(0), dict[int, None]()
    order = [*dict.fromkeys(members[draw_order(strata, rng=rng, groups=groups)].tolist())]
    for least, candidates in ((0, order), (2, sorted(order, key=lambda group: sizes[group]))):
        for group in candidates:
            fits = len(strata) - left.sum() + sizes[group] <= held * len(strata) + 0.5 or len(chosen) < least
            apart = group not in chosen and len(chosen) < len(names) - 2
            if fits and apart and ((left - counts[group] >= 2) | (counts[group] == 0)).all():
                chosen[group], left = None, left - counts[group]
    return np.flatnonzero(np.isin(members, [*chosen]))


def _with_classes(data: TaskData, groups: Mapping[str, list[int | str]]) -> TaskData:
    if not data.classes:
        raise TaskError("option classes is for classification; the targets here are numbers.")
    if len(groups) < 2:
        raise TaskError(f"option classes names {len(groups)} classes; at least 2 are needed.")
    new = torch.full((len(data.classes),), -1)
    for number, (name, members) in enumerate(groups.items()):
        for member in members:
            old = _find(member, data.classes)
            if old is None:
                known = ", ".join(data.classes[:20]) + (", ..." if len(data.classes) > 20 else "")
                raise TaskError(f"option classes: {name} = {member!r} is no class; allowed: {known}.")
            if new[old] >= 0:
                raise TaskError(f"option classes names {member!r} twice; allowed: each class once.")
            new[old] = number

    def chosen(examples: Examples, _: str) -> Examples:
        targets = new[examples.targets]
        kept = torch.nonzero(targets >= 0).squeeze(1)
        return replace(examples.subset(kept), targets=targets[kept])

    # At once: between two changes, targets and classes would not fit.
    return data.map(chosen, classes=tuple(groups))


def _find(member: int | str, classes: tuple[str, ...]) -> int | None:
    # By name first, so that 1 means the label "1" where the labels are numbers, whichever they start with.
    if str(member) in classes:
        return classes.index(str(member))
    return member if isinstance(member, int) and 0 <= member < len(classes) else None


def _standardized(data: TaskData) -> TaskData:
    """Shift and scale channels (the last axis) to mean 0, spread 1 over the pool.

    Zeros after the end of a sequence stay zeros and don't count. Raises `TaskError` for inputs that are no numbers.
    """
    values, real = _values(data.pool)
    seen = values[real]
    mean, std = seen.mean(0), seen.std(0, correction=0)
    std = torch.where(std > 0, std, 1)

    def scaled(examples: Examples, _: str) -> Examples:
        values, real = _values(examples)
        new = torch.where(real[..., None], (values - mean) / std, 0)
        inputs = {**examples.inputs, "values": new} if isinstance(examples.inputs, dict) else new
        return replace(examples, inputs=inputs)

    return data.map(scaled)


def _values(examples: Examples) -> tuple[Tensor, Tensor]:
    """Return values (N, ..., C), and which (N, ...) are real and not padding."""
    inputs = examples.inputs
    if isinstance(inputs, dict) and {"values", "lengths"} <= inputs.keys():
        values = inputs["values"]
        return values, torch.arange(values.shape[1]) < inputs["lengths"][:, None]
    if isinstance(inputs, Tensor):
        return inputs, torch.ones(inputs.shape[:-1], dtype=torch.bool)
    raise TaskError(f"option standardize = true is for numbers; these data are {type(inputs).__name__}.")
