"""Labelled examples, and the two sets of them that make a task."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from search.data.brought import NOTHING, Brought
from search.data.grouping import Grouping
from search.errors import TaskError

Tensors = Tensor | dict[str, Tensor]

Batch = tuple[Tensors, Tensor]
"""Inputs and targets of some examples, as a network takes them."""


class LazyInputs(Protocol):
    """Inputs in another form: raw (`Images`, `Texts`), or made for a network on request.

    The latter have `take(indices, passes)` and `cache_key(indices, augmented=...)`, too. `passes` (B,) says how often
    each example has been read before, which chooses its augmented view; None is the plain one.
    """

    def __len__(self) -> int: ...

    def subset(self, indices: Tensor) -> Self: ...


Inputs = Tensors | LazyInputs


@dataclass(frozen=True, slots=True, eq=False)
class Examples(Dataset[Batch]):
    """Labelled examples: a map-style data set that gathers a batch by one indexing operation.

    inputs: N of them, in any form of `Inputs`.
    targets: class indices, int64 (N,), or numbers, float32 (N,) or (N, K).
    groups: whose they are, int64 (N,): examples of one patient, site, ... share a number. None: of nobody.

    A `DataLoader` hands a batch's indices, or pairs of index and pass, to `__getitems__`. With
    `collate_fn=already_batched` it leaves the result alone.
    """

    inputs: Inputs
    targets: Tensor
    groups: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Batch:
        inputs, targets = self.__getitems__([index])
        one = {key: value[0] for key, value in inputs.items()} if isinstance(inputs, dict) else inputs[0]
        return one, targets[0]

    def __getitems__(self, indices: list[int] | list[tuple[int, int]]) -> Batch:
        chosen = torch.as_tensor(indices)
        return self.take(chosen) if chosen.ndim == 1 else self.take(*chosen.unbind(1))

    def take(self, indices: Tensor, passes: Tensor | None = None) -> Batch:
        """Return a batch of those examples (B,), augmented as their `passes` (B,) say, or plain."""
        return index_inputs(self.inputs, indices, passes), self.targets[indices]

    def at(self, epoch: int) -> "Examples":
        """Return the examples to read in an epoch: these, in every one."""
        return self

    def subset(self, indices: Tensor) -> "Examples":
        plain = isinstance(self.inputs, Tensor | dict)
        inputs = index_inputs(self.inputs, indices) if plain else self.inputs.subset(indices)  # type: ignore[union-attr]
        groups = None if self.groups is None else self.groups[indices]
        return Examples(inputs, self.targets[indices], groups)


def index_inputs(inputs: Inputs, indices: Tensor, passes: Tensor | None = None) -> Any:
    """Return those inputs (B,) as a network takes them."""
    if isinstance(inputs, Tensor):
        return inputs[indices]
    if isinstance(inputs, dict):
        return {key: value[indices] for key, value in inputs.items()}
    if not hasattr(inputs, "take"):
        raise TypeError(f"{type(inputs).__name__} must be prepared for a network before batches are made.")
    return inputs.take(indices, passes)


def tensors_of(inputs: Inputs) -> list[Any]:
    """Return the tensors of inputs: one, or those of a dict. `LazyInputs` count as one."""
    return [*inputs.values()] if isinstance(inputs, dict) else [inputs]


def cache_key(inputs: Inputs, indices: Tensor, *, augmented: bool) -> tuple[Any, ...]:
    """Return everything that those inputs (B,) are made from, `augmented` or plain."""
    if isinstance(inputs, Tensor):
        return (inputs[indices],)
    if isinstance(inputs, dict):
        return tuple((key, inputs[key][indices]) for key in sorted(inputs))
    assert hasattr(inputs, "cache_key")
    return inputs.cache_key(indices, augmented=augmented)  # type: ignore[no-any-return]


def already_batched(batch: Any) -> Batch:
    """Return a batch as it is: the `collate_fn` of `Examples`, which stack themselves."""
    inputs, targets = batch
    return inputs, targets


@dataclass(frozen=True, slots=True, kw_only=True)
class RawData:
    """Labelled data as a loader returns them.

    test, validation: None if the source has none of its own.
    grouping: the way in which the examples' groups were found; None if they have none, or brought them.
    brought: facts of a user's own data that a study does not take as they are.
    """

    pool: Examples
    test: Examples | None
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    validation: Examples | None = None
    grouping: Grouping | None = None
    brought: Brought = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskData:
    """A task's examples, checked: a pool to draw labelled ones from, and those that evaluate.

    test: empty if the data only serve as a source, or are cross-validated.
    validation: the data's own, in place of labels of the pool that were not drawn.
    cross_validated: the pool is its own test set, part by part.
    classes: their names; () for regression.
    notes: lines that tell the user what was done to the data.
    fingerprint: changes when the data do; "" if that is unknown.
    marks: see `search.data.duplicates.marks`.
    origin: the key that asked for the data, with its value; messages start with it.
    brought: as in `RawData`.
    """

    pool: Examples
    test: Examples
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    fingerprint: str = ""
    marks: NDArray[np.uint64] | None = None
    origin: str = "[task] data"
    validation: Examples | None = None
    cross_validated: bool = False
    brought: Brought = NOTHING

    def __post_init__(self) -> None:
        if len(self.pool) == 0:
            raise TaskError("The pool has no examples.")
        for part, examples in self.parts.items():
            _check_inputs(examples, part=part)
            if self.classes:
                _check_indices(examples.targets, part=part, classes=len(self.classes))
            else:
                _check_numbers(examples.targets, part=part)
        _check_groups(self.parts)
        if len(self.test) and self.pool.targets.shape[1:] != self.test.targets.shape[1:]:
            shapes = " and ".join(str(tuple(part.targets.shape)) for part in (self.pool, self.test))
            raise TaskError(f"The pool's and the test set's targets differ in shape: {shapes}.")

    @property
    def parts(self) -> dict[str, Examples]:
        """The parts by name; a `Split`'s indices count through them in this order."""
        validation = {} if self.validation is None else {"validation": self.validation}
        return {"pool": self.pool, **validation, "test": self.test}

    def map(self, change: Callable[[Examples, str], Examples], **fields: Any) -> Self:
        """Return the data with `change(examples, name)` in place of each part, and other fields."""
        changed: dict[str, Any] = {name: change(part, name) for name, part in self.parts.items()}
        return replace(self, **changed, **fields)

    @property
    def kind(self) -> Literal["classification", "regression"]:
        return "regression" if self.pool.targets.is_floating_point() else "classification"

    @property
    def outputs(self) -> int:
        """Number of outputs that a head needs: one a class, or one a target column."""
        if self.classes:
            return len(self.classes)
        return 1 if self.pool.targets.ndim == 1 else self.pool.targets.shape[1]


def _check_inputs(examples: Examples, *, part: str) -> None:
    inputs, targets = examples.inputs, examples.targets
    tensors = tensors_of(inputs)
    known = all(isinstance(tensor, Tensor) for tensor in tensors) or hasattr(inputs, "subset")
    if not tensors or not known or not isinstance(targets, Tensor):
        raise TaskError(f"The {part} set's inputs and targets must be torch tensors.")
    for tensor in tensors:
        if len(tensor) != len(targets):
            raise TaskError(f"The {part} set has {len(tensor)} inputs and {len(targets)} targets.")
        if isinstance(tensor, Tensor) and not tensor.isfinite().all():
            broken = torch.nonzero(~tensor.isfinite())
            count = f"{len(broken)} inputs that are NaN or infinite"
            raise TaskError(f"The {part} set has {count}, the first at {_at(broken)}.")


def _check_indices(targets: Tensor, *, part: str, classes: int) -> None:
    if targets.ndim != 1 or targets.dtype != torch.int64:
        raise TaskError(f"The {part} set's targets must be class indices, int64 of shape (N,), got {_kind(targets)}.")
    low, high = (int(targets.min()), int(targets.max())) if len(targets) else (0, 0)
    if low < 0 or high >= classes:
        raise TaskError(f"The {part} set has targets from {low} to {high}; allowed: 0 to {classes - 1}.")


def _check_numbers(targets: Tensor, *, part: str) -> None:
    if targets.ndim not in (1, 2) or targets.dtype != torch.float32:
        raise TaskError(
            f"The {part} set has no classes, so its targets must be numbers, float32 of shape (N,) or (N, K), "
            f"got {_kind(targets)}."
        )
    broken = torch.nonzero(~targets.isfinite())
    if len(broken):
        raise TaskError(f"The {part} set's targets must be finite; {len(broken)} are not, the first at {_at(broken)}.")


def _check_groups(parts: dict[str, Examples]) -> None:
    have = {part: examples.groups is not None for part, examples in parts.items() if len(examples)}
    if len({*have.values()}) > 1:
        has, lacks = (next(part for part, known in have.items() if known is wanted) for wanted in (True, False))
        raise TaskError(f"The {has} set has groups and the {lacks} set has none; allowed: all, or none.")
    for part, examples in parts.items():
        groups = examples.groups
        if groups is None or not len(examples):
            continue
        if not isinstance(groups, Tensor) or groups.dtype != torch.int64 or groups.shape != (len(examples),):
            kind = _kind(groups) if isinstance(groups, Tensor) else type(groups).__name__
            raise TaskError(f"The {part} set's groups must be int64 of shape ({len(examples)},), got {kind}.")


def _at(places: Tensor) -> str:
    return str(places[0].tolist())


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
