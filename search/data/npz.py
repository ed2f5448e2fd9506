"""Arrays in an .npz file: images, features or series, with labels or numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from search.data.decoding import Pixels
from search.data.examples import Examples, Inputs, TaskData
from search.data.images import Images
from search.data.series import standardized
from search.data.splits import Classes, Part, Test, apply_splits, class_indices, share
from search.errors import TaskError
from search.files import BrokenArchive, read_arrays

Arrays = dict[str, NDArray[Any]]
NAMES = (
    ("x", "y", "x_test", "y_test"),
    ("images", "labels", "images_test", "labels_test"),
    ("x_train", "y_train", "x_test", "y_test"),  # Keras
    ("train_images", "train_labels", "test_images", "test_labels"),  # MedMNIST
)
"""What the arrays may be called: inputs and targets, and those of a test set."""


def npz_data(
    name: str,
    *,
    where: str,
    test: Test = None,
    part: Part | None = None,
    classes: Classes | None = None,
    standardize: bool = False,
) -> TaskData:
    """Arrays `x` and `y`, perhaps `x_test` and `y_test`, or by other names (a row of `NAMES`).

    x: bytes (N, H, W) or (N, H, W, C) are images; other numbers (N, ...) stay what they are, as float32: features
    (N, F), series (N, T, C), or images (N, C, H, W). y: whole numbers or words are classes, other numbers are to
    be predicted. `standardize` makes each of the last axis' columns have mean 0 and spread 1 in the pool.
    Raises `TaskError`.
    """
    arrays = _read(Path(name), where)
    x, y, suffixed = _named(arrays, name, where)
    held = suffixed
    if isinstance(test, str):
        held_arrays = _read(Path(test), where)
        held = _named(held_arrays, test, where)[:2]
    pool, found = _examples(x, y, name, where)
    own = pool.subset(torch.arange(0))
    if held is not None:
        own, _ = _examples(*held, name, where, classes=found)
    if type(own.inputs) is not type(pool.inputs):
        raise TaskError(f"{where}: the test inputs are of another type than the others ({held and held[0].dtype}).")
    data = TaskData(pool=pool, test=own, classes=found)
    hold_out = share(None if isinstance(test, str) else test, own=held is not None, where=where)
    data = apply_splits(data, where=where, part=part, classes=classes, hold_out=hold_out)
    return standardized(data, where=where) if standardize else data


def _read(path: Path, where: str) -> Arrays:
    try:
        return read_arrays(path)
    except BrokenArchive as error:
        raise TaskError(f"{where}: {path} can't be read as an .npz file of plain arrays: {error}.") from error


Pair = tuple[NDArray[Any], NDArray[Any]]


def _named(arrays: Arrays, name: str, where: str) -> tuple[NDArray[Any], NDArray[Any], Pair | None]:
    for x, y, *tests in NAMES:
        if x in arrays and y in arrays:
            present = [key for key in tests if key in arrays]
            if len(present) == 1:
                raise TaskError(f"{where}: {name} has {present[0]} but not both of {' and '.join(tests)}.")
            return arrays[x], arrays[y], (arrays[tests[0]], arrays[tests[1]]) if present else None
    allowed = ", or ".join(f"{x} and {y}" for x, y, *_ in NAMES)
    raise TaskError(f"{where}: {name} needs arrays {allowed}; it has: {', '.join(arrays)[:200]}.")


def _examples(
    x: NDArray[Any], y: NDArray[Any], name: str, where: str, *, classes: tuple[str, ...] | None = None
) -> tuple[Examples, tuple[str, ...]]:
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise TaskError(f"{where}: {name} has inputs of shape {x.shape} and targets of shape {y.shape}.")
    inputs = _inputs(x, name, where)
    if y.shape[1:] == (1,):
        y = y[:, 0]
    if y.dtype.kind == "f":
        return Examples(inputs, torch.from_numpy(y.astype(np.float32))), ()
    if y.ndim != 1 or y.dtype.kind not in "iubU":
        raise TaskError(f"{where}: {name} has targets {y.dtype} of shape {y.shape}; allowed: one class or number each.")
    try:
        targets, names = class_indices([str(label) for label in y.tolist()], names=classes or None)
    except KeyError as error:
        raise TaskError(f"{where}: {name} has the label {error} in its test part only.") from None
    return Examples(inputs, targets), names


def _inputs(x: NDArray[Any], name: str, where: str) -> Inputs:
    if x.dtype == np.uint8 and x.ndim >= 3:
        return Images.of(Pixels(_channels_last(x, name, where), name))
    if x.dtype.kind not in "fiub" or x.ndim < 2:
        raise TaskError(f"{where}: {name} has inputs {x.dtype} of shape {x.shape}; allowed: numbers (N, ...).")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused for it
        return torch.from_numpy(x.astype(np.float32))


def _channels_last(x: NDArray[Any], name: str, where: str) -> NDArray[Any]:
    if x.ndim == 3 or (x.ndim == 4 and x.shape[3] in (1, 3, 4)):
        return x
    if x.ndim == 4 and x.shape[1] in (1, 3, 4):
        return x.transpose(0, 2, 3, 1)
    raise TaskError(f"{where}: {name} has bytes of shape {x.shape}; allowed: (N, H, W), or with 1, 3 or 4 channels.")
