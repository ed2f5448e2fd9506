"""Selection from raw data: a slice, chosen classes, a test set held out; standardised numbers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from search.data.examples import Examples, RawData, TaskData
from search.errors import TaskError

Share = Annotated[float, Field(ge=0, lt=1)]
"""A share to hold out as the test set."""

Part = Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=2, max_length=2)]
"""A slice of a fixed shuffle, as shares: [0, 0.5] is the first half."""

Classes = dict[str, list[int | str]]
"""Old classes, by name or number, under the names of new ones; others are dropped."""

CROSS_VALIDATION = "cv"
HELD_OUT_SHARE = 0.2
MAX_CROSS_VALIDATED = 500
"""Labels below which data without a test set are by default cross-validated."""
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

    The slice depends on the number of examples alone. So tasks with disjoint slices of the same data share no
    example, whatever their labels, classes and test sets. A test set of the data's own stays whole.
    Raises `TaskError`.
    """
    own = raw.pool.subset(torch.arange(0)) if raw.test is None else raw.test
    data = TaskData(pool=raw.pool, test=own, classes=raw.classes, notes=raw.notes, validation=raw.validation)
    if part is not None:
        data = replace(data, pool=data.pool.subset(_slice(len(data.pool), part)))
    if classes is not None:
        data = _regrouped(data, classes)
    if test is None and raw.test is None:
        test = "cv" if len(data.pool) < MAX_CROSS_VALIDATED else HELD_OUT_SHARE
    check_no_test_set(test, own=raw.test is not None)
    held = 0.0 if raw.test is not None or test is None or test == "cv" else test
    if test == "cv":
        note = f"{len(data.pool)} labels and no test set: judged by cross-validation, each label tests in turn."
        data = replace(data, cross_validated=True, notes=(*data.notes, note))
    elif held:
        pool, holdout = _held_out(_strata(data), held, data.pool.groups)
        if len(holdout) == 0 or len(pool) == 0:
            raise TaskError(f"test = {held} of {len(data.pool)} examples leaves none on one side.")
        data = replace(data, pool=data.pool.subset(pool), test=data.pool.subset(holdout))
    return _standardized(data) if standardize else data


def check_no_test_set(test: object, *, own: bool) -> None:
    """Refuse `test` for data with a test set of their `own`. Raises `TaskError`."""
    if own and test:
        raise TaskError(f"test = {test!r}, but these data have a test set of their own; leave it out.")


def part_bounds(part: Part, count: int) -> tuple[int, int]:
    """Return the range of a part among `count` positions. Raises `TaskError` if it is empty."""
    start, end = (int(at * count + 0.5) for at in part)
    if start >= end:
        raise TaskError(f"option part = {part} has no examples; allowed: [from, to] with from < to.")
    return start, end


def _strata(data: TaskData) -> NDArray[np.int64]:
    targets = data.pool.targets
    return targets.numpy() if data.classes else np.zeros(len(targets), dtype=np.int64)


def _slice(count: int, part: Part) -> Tensor:
    start, end = part_bounds(part, count)
    # Not stratified: with strata, the same example would fall into other slices under other labels.
    return torch.from_numpy(np.sort(np.random.default_rng(_PART_SEED).permutation(count)[start:end]))


def _held_out(strata: NDArray[np.int64], held: float, groups: Tensor | None) -> tuple[Tensor, Tensor]:
    """Draw indices of pool and test set.

    A class keeps two labels for the pool. Groups go whole, in random order, as long as they fit.
    """
    rng, tests = np.random.default_rng(_TEST_SEED), []
    if groups is not None:
        names, sizes = np.unique(groups.numpy(), return_counts=True)
        chosen, free = [], held * len(strata) + 0.5
        for place in rng.permutation(len(names)):
            if sizes[place] <= free:
                chosen.append(names[place])
                free -= sizes[place]
        test = np.flatnonzero(np.isin(groups.numpy(), chosen))
    else:
        for stratum in np.unique(strata):
            members = rng.permutation(np.flatnonzero(strata == stratum))
            wanted = max(1, int(held * len(members) + 0.5))
            tests.append(members[: max(0, min(wanted, len(members) - 2))])
        test = np.sort(np.concatenate(tests))
    pool = np.setdiff1d(np.arange(len(strata)), test)
    return torch.from_numpy(pool), torch.from_numpy(test)


def _regrouped(data: TaskData, groups: Mapping[str, list[int | str]]) -> TaskData:
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
