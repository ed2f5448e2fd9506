"""Data by name: a pool to draw labelled examples from, and a test set that only confirm trials see."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from search.errors import TaskError
from search.tasks.imports import call_named


@dataclass(frozen=True, slots=True, eq=False)
class Examples(Dataset[tuple[Tensor, Tensor]]):
    """Labelled examples in memory: `inputs` (N, ...) and `targets` (N,), class indices.

    A map-style data set whose batches are gathered by one indexing operation: `DataLoader` hands a batch's
    indices to `__getitems__`, and `collate_fn=gathered` leaves the result alone.
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.inputs[index], self.targets[index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        chosen = torch.as_tensor(indices)
        return self.inputs[chosen], self.targets[chosen]

    def subset(self, indices: Tensor) -> "Examples":
        return Examples(self.inputs[indices], self.targets[indices])


def gathered(batch: Any) -> tuple[Tensor, Tensor]:
    """The `collate_fn` of `Examples`, whose batches are already stacked."""
    inputs, targets = batch
    return inputs, targets


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskData:
    """A classification task: the pool, the test set (empty where only a source is made of it), the classes' names."""

    pool: Examples
    test: Examples
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        for part, examples in (("pool", self.pool), ("test", self.test)):
            inputs, targets = examples.inputs, examples.targets
            if not isinstance(inputs, Tensor) or not isinstance(targets, Tensor):
                raise TaskError(f"The {part} set's inputs and targets must be torch tensors.")
            if targets.ndim != 1 or targets.dtype != torch.int64:
                raise TaskError(
                    f"The {part} set's targets must be class indices, int64 of shape (N,), "
                    f"got {str(targets.dtype).removeprefix('torch.')} of shape {tuple(targets.shape)}."
                )
            if len(inputs) != len(targets):
                raise TaskError(f"The {part} set has {len(inputs)} inputs and {len(targets)} targets.")
            found = sorted(set(examples.targets.tolist()))
            if found and (found[0] < 0 or found[-1] >= len(self.classes)):
                raise TaskError(
                    f"The {part} set has targets from {found[0]} to {found[-1]}; allowed: 0 to {len(self.classes) - 1}."
                )
        if len(self.pool) == 0:
            raise TaskError("The pool has no examples.")


def load_data(name: str, *, where: str) -> TaskData:
    """The data of that name (a row of `DATA`, or "package.module:function" that returns a `TaskData`).

    `where` names the key that asked for it. Raises `TaskError`.
    """
    if name in DATA:
        return DATA[name]()
    if ":" in name:
        data = call_named(name, where=where)
        if not isinstance(data, TaskData):
            raise TaskError(f"{where} = {name!r} returned a {type(data).__name__}; it must return a TaskData.")
        return data
    raise TaskError(f'{where} = {name!r} is not known; allowed: {", ".join(DATA)}, or "package.module:function".')


def digits() -> TaskData:
    """scikit-learn's 1,797 digits of 8x8, all ten classes: 847 to draw from, 500 to test on."""
    inputs, targets, _, pool, test = _digits_parts()
    return TaskData(
        pool=Examples(inputs[pool], targets[pool]),
        test=Examples(inputs[test], targets[test]),
        classes=tuple("0123456789"),
    )


def digits_source() -> TaskData:
    """450 other images of the digits 0-4, all to train on; none is held out for a test."""
    inputs, targets, source, _, _ = _digits_parts()
    return TaskData(
        pool=Examples(inputs[source], targets[source]),
        test=Examples(inputs[:0], targets[:0]),
        classes=tuple("01234"),
    )


def _digits_parts() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    # Three disjoint parts of one fixed shuffle: the source must not leak into the target. Its 450 images halve
    # what is left of the classes 0-4; pool and test share the rest in equal proportions.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    inputs = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1) / 16
    targets = torch.tensor(bunch.target, dtype=torch.int64)
    few = torch.nonzero(targets < 5).squeeze(1)
    many = torch.nonzero(targets >= 5).squeeze(1)
    source, rest = train_test_split(few, train_size=450, stratify=targets[few], random_state=0)
    rest = torch.cat([rest, many])
    test, pool = train_test_split(rest, train_size=500, stratify=targets[rest], random_state=0)
    return inputs, targets, source, pool, test


DATA: dict[str, Callable[[], TaskData]] = {"digits": digits, "digits-0-4": digits_source}
