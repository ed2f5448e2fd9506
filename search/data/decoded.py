"""Images decoded once, kept in a file and shared by processes."""

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from search.array_file import ArrayWriter, BrokenArray, read_array
from search.data.decoding import ImageSource, decode
from search.data.squares import KINDS, Square, Values
from search.digest import digest
from search.errors import TaskError, printable
from search.files import replacing

Made = TypeVar("Made")
IMAGES_AT_ONCE = 512
"""Images that are decoded before they are written: memory stays small."""
_VERSION = 3  # of the result of `decode`; part of the cache's key
Array = NDArray[Any]
Take = Callable[[int, Array], Any]
"""Where a decoded square goes, by the image's number."""
Described = list[Values | str]
"""Of each image its values, or the reason why it can't be read."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoded:
    """N decoded images.

    pixels: bytes (N, channels, side, side). If one image has more than 8 bits a channel, all are float32, with one
    channel if all are grey. Wider images are stored above their lowest value. Unreadable ones are black.
    """

    pixels: Array
    described: Described

    @property
    def reasons(self) -> dict[int, str]:
        """Why images can't be read, by number."""
        return {number: one for number, one in enumerate(self.described) if isinstance(one, str)}

    @property
    def values(self) -> list[Values]:
        return [one for one in self.described if not isinstance(one, str)]


@dataclass(frozen=True, slots=True)
class _Layout:
    """The array that the images are kept in."""

    dtype: type[np.generic]
    shape: tuple[int, int, int, int]

    @property
    def bytes_shape(self) -> tuple[int, ...]:
        return (*self.shape[:3], self.shape[3] * self.dtype().itemsize)

    def fitted(self, pixels: Array) -> Array:
        """Return a square in this layout. Raises `_TooSmall`."""
        channels = self.shape[1]
        if pixels.dtype != np.uint8 and self.dtype is np.uint8:
            raise _TooSmall
        if len(pixels) > channels:
            if (pixels != pixels[:1]).any():
                raise _TooSmall
            pixels = pixels[:1]
        return np.ascontiguousarray(np.broadcast_to(pixels, (channels, *self.shape[2:])), dtype=self.dtype)


class _TooSmall(Exception):
    """An image that a layout can't hold; the next can."""


def decoded(
    source: ImageSource,
    rows: NDArray[np.int64],
    *,
    channels: int,
    side: int,
    interpolation: str,
    cache: Path | None,
) -> Decoded:
    """Decode images at N rows, and say why some can't be read.

    With a folder `cache` the pixels are a memory map of a file there. One process writes it while the others wait;
    it appears whole or not at all. Raises `TaskError`.
    """
    # Of the first that holds all of them.
    layouts = [_Layout(np.uint8, (len(rows), channels, side, side))]
    layouts += [_Layout(np.float32, (len(rows), count, side, side)) for count in sorted({1, channels})]

    def one(row: int) -> Square | str:
        try:
            with _opened(source.image(int(row))) as image:
                return decode(image, channels=channels, side=side, interpolation=interpolation)
        except MemoryError:
            raise
        except Exception as error:  # Pillow's readers raise whatever their format's code runs into.
            return _reason(error)

    def read(layout: _Layout, take: Take) -> Described:
        described: Described = []
        for number, made in enumerate(_in_order(one, rows, threads=source.threads)):
            if isinstance(made, str):
                made = Square(np.zeros((1, side, side), dtype=np.uint8), made)
            take(number, layout.fitted(made.pixels))
            described.append(made.described)
        return described

    def in_memory(layout: _Layout) -> Decoded:
        pixels = np.empty(layout.shape, dtype=layout.dtype)
        return Decoded(pixels=pixels, described=read(layout, pixels.__setitem__))

    key = source.key()
    if cache is None or key is None or len(rows) == 0:
        return _first_that_fits(layouts, in_memory)
    name = digest(_VERSION, key, channels, side, interpolation, rows)
    try:
        return _kept(cache / f"images-{name}.npy", layouts, read)
    except OSError as error:
        raise TaskError(f"the decoded images can't be kept in {cache}: {error.strerror or error}.") from error


def _opened(image: Image.Image | Array) -> AbstractContextManager[Image.Image | Array]:
    return nullcontext(image) if isinstance(image, np.ndarray) else image


def _in_order(one: Callable[[int], Made], rows: NDArray[np.int64], *, threads: bool) -> Iterator[Made]:
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # odd metadata, palettes
        for start in range(0, len(rows), IMAGES_AT_ONCE):
            yield from (pool.map if threads else map)(one, rows[start : start + IMAGES_AT_ONCE])


def _first_that_fits(layouts: list[_Layout], make: Callable[[_Layout], Made]) -> Made:
    for layout in layouts[:-1]:
        with suppress(_TooSmall):
            return make(layout)
    return make(layouts[-1])


def _kept(file: Path, layouts: list[_Layout], read: Callable[[_Layout, Take], Described]) -> Decoded:
    file.parent.mkdir(parents=True, exist_ok=True)

    def write(layout: _Layout) -> Decoded:
        with replacing(file) as stream:
            writer = ArrayWriter(stream, layout.bytes_shape)
            described = read(layout, lambda _, made: writer.write(made.view(np.uint8)))
            writer.finish()
            with replacing(file.with_suffix(".json")) as sidecar:
                sidecar.write(json.dumps(described).encode())
        return Decoded(pixels=_read(file, layout), described=described)

    with FileLock(file.with_suffix(".lock")):
        for layout in layouts:
            # What does not fit is decoded again.
            with suppress(BrokenArray, OSError, ValueError, OverflowError, RecursionError):
                described = _described(file.with_suffix(".json"), layout.shape[0])
                return Decoded(pixels=_read(file, layout), described=described)
        for left in file.parent.glob(f"{file.stem}.*.partial"):  # by a process that was killed
            left.unlink()
        return _first_that_fits(layouts, write)


def _read(file: Path, layout: _Layout) -> Array:
    return read_array(file, layout.bytes_shape, checked=False).view(layout.dtype)


def _described(file: Path, examples: int) -> Described:
    """Return what is known of each image. Raises `ValueError` or `OverflowError`."""
    table = json.loads(file.read_text()) if file.is_file() else None
    if not isinstance(table, list) or len(table) != examples:
        raise ValueError(f"{file} is of other images.")
    return [printable(one) if isinstance(one, str) else _values(one) for one in table]


def _values(fields: Any) -> Values:
    kind, *numbers = fields if isinstance(fields, list) else [None]
    known = all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)
    if kind not in KINDS or len(numbers) != len(Values._fields) - 1 or not known:
        raise ValueError("values of another form")
    return Values(kind, *map(float, numbers))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is no image"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(printable(text).split())[:100] or type(error).__name__
