"""Arrays in an .npz file: images, features or series, with labels or numbers."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from search.data.decoding import Pixels
from search.data.examples import Examples, Inputs, RawData
from search.data.grouping import FUNCTION, Grouping
from search.data.images import Images
from search.data.labels import class_indices
from search.errors import TaskError
from search.files import BrokenArchive, read_arrays

Array = NDArray[Any]
Arrays = Mapping[str, Array]
NAMES = (
    ("x", "y", "x_test", "y_test"),
    ("images", "labels", "images_test", "labels_test"),
    ("x_train", "y_train", "x_test", "y_test"),  # Keras
    ("train_images", "train_labels", "test_images", "test_labels"),  # MedMNIST
)
"""Names that the arrays may have: inputs and targets, and those of a test set."""

CHANNELS = (1, 3, 4)
"""Counts of channels: grey, RGB, RGBA."""
MIN_SIDE, MAX_RATIO = 8, 2
"""Least pixels of the shorter side of wide images, and longest side over shortest."""


def npz_arrays(
    name: str, grouping: Grouping | None = None, *, test: str | None = None, images: bool | None = None
) -> RawData:
    """Read arrays `x` and `y`, perhaps a test set's, by one of `NAMES`.

    grouping: by another array (N,), of the test set by that of `group_array`, or by a function of a row of x.
    x: whole numbers are images, (N, H, W) or with channels, first or last: bytes always, wider ones if they look so.
    x: other numbers (N, ...) become float32: features (N, F), series (N, T, C), tensors (N, C, H, W).
    y: whole numbers or words are classes; other numbers are to be predicted.
    test: a file of such arrays, in place of a test set in this one.
    images: true makes images of any numbers; false makes none. Raises `TaskError`.
    """
    arrays = _arrays(name)
    x, y, held = _named(arrays, name)
    chosen = _are_images(x) if images is None else images
    pool, classes = _examples(x, y, name, images=chosen)
    pool = _grouped(pool, x, arrays, name, grouping)
    own = None
    if test is not None:
        arrays = _arrays(test)
        held = _named(arrays, test)[:2]
    if held is not None:
        own, _ = _examples(*held, name, classes=classes, images=chosen)
        if type(own.inputs) is not type(pool.inputs):
            raise TaskError(f"the test inputs are of another type than the others ({held[0].dtype}).")
        own = _grouped(own, held[0], arrays, test or name, grouping, of_test=test is None)
    notes: tuple[str, ...] = ()
    if images is None and x.dtype != np.uint8 and x.dtype.kind in "iu" and x.ndim > 2:
        read, other = ("images", "false") if chosen else ("numbers as they are", "true")
        notes = (f"the inputs, {x.dtype} of shape {x.shape}, are {read}; option images = {other} for the other.",)
    return RawData(pool=pool, test=own, classes=classes, notes=notes, grouping=grouping)


def group_array(by: str) -> str:
    """Return the name of a test set's array of groups.

    In the pool's name "train" becomes "test"; else "_test" is put behind it.
    """
    return by.replace("train", "test") if "train" in by else f"{by}_test"


def _grouped(
    examples: Examples, x: Array, arrays: Arrays, name: str, grouping: Grouping | None, *, of_test: bool = False
) -> Examples:
    def named(by: str) -> list[Any]:
        key = group_array(by) if of_test else by
        if key not in arrays:
            raise TaskError(f"{name} has no array {key!r}; allowed: {', '.join(arrays)[:200]}, or {FUNCTION}.")
        found = arrays[key]
        if found.shape not in ((len(x),), (len(x), 1)):
            raise TaskError(f"{name} has {key!r} of shape {found.shape}; allowed: ({len(x)},), a group an example.")
        return found.reshape(-1).tolist()

    return examples if grouping is None else replace(examples, groups=grouping.of(x, named))


def _arrays(name: str) -> Arrays:
    try:
        return read_arrays(Path(name))
    except BrokenArchive as error:
        raise TaskError(f"{name} can't be read as an .npz file of plain arrays: {error}.") from error


def _named(arrays: Arrays, name: str) -> tuple[Array, Array, tuple[Array, Array] | None]:
    for x, y, *tests in NAMES:
        if x in arrays and y in arrays:
            present = [key for key in tests if key in arrays]
            if len(present) == 1:
                raise TaskError(f"{name} has {present[0]} but not both of {' and '.join(tests)}.")
            return arrays[x], arrays[y], (arrays[tests[0]], arrays[tests[1]]) if present else None
    allowed = ", or ".join(f"{x} and {y}" for x, y, *_ in NAMES)
    raise TaskError(f"{name} needs arrays {allowed}; it has: {', '.join(arrays)[:200]}.")


def _are_images(x: Array) -> bool:
    """Guess by type and shape: bytes, and wider whole numbers in squarish planes."""
    if x.dtype == np.uint8:
        return x.ndim >= 3
    if x.dtype.kind not in "iu" or x.ndim not in (3, 4):
        return False
    height, width = x.shape[1:3] if x.ndim == 3 or x.shape[3] in CHANNELS else x.shape[2:]
    squarish = min(height, width) >= MIN_SIDE and max(height, width) <= MAX_RATIO * min(height, width)
    return squarish and (x.ndim == 3 or x.shape[3] in CHANNELS or x.shape[1] in CHANNELS)


def _examples(
    x: Array, y: Array, name: str, *, images: bool, classes: tuple[str, ...] = ()
) -> tuple[Examples, tuple[str, ...]]:
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise TaskError(f"{name} has inputs of shape {x.shape} and targets of shape {y.shape}.")
    inputs = _inputs(x, name, images=images)
    if y.shape[1:] == (1,):
        y = y[:, 0]
    if y.dtype.kind == "f":
        return Examples(inputs, torch.from_numpy(y.astype(np.float32))), ()
    if y.ndim != 1 or y.dtype.kind not in "iubU":
        raise TaskError(f"{name} has targets {y.dtype} of shape {y.shape}; allowed: one class or number each.")
    targets, found = class_indices([str(label) for label in y.tolist()], names=classes)
    return Examples(inputs, targets), found


def _inputs(x: Array, name: str, *, images: bool) -> Inputs:
    if images and x.dtype.kind in "fiub":
        return Images.of(Pixels(_channels_last(x.astype(np.uint8) * 255 if x.dtype == bool else x, name), name))
    if x.dtype.kind not in "fiub" or x.ndim < 2:
        raise TaskError(f"{name} has inputs {x.dtype} of shape {x.shape}; allowed: numbers (N, ...).")
    with np.errstate(over="ignore"):  # too large a number becomes infinite, which is refused
        return torch.from_numpy(x.astype(np.float32))


def _channels_last(x: Array, name: str) -> Array:
    if x.ndim == 3 or (x.ndim == 4 and x.shape[3] in CHANNELS):
        return x
    if x.ndim == 4 and x.shape[1] in CHANNELS:
        return x.transpose(0, 2, 3, 1)
    raise TaskError(
        f"{name} has images of shape {x.shape}; allowed: (N, H, W), or with 1, 3 or 4 channels; or "
        "option images = false."
    )
