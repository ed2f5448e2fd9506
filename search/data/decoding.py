"""Sources of images: files or arrays of every kind; and the decoding of one image."""

import os
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from search.data.squares import FORMATS, Square, byte_square
from search.data.wide_images import wide_square, wide_values
from search.digest import digest
from search.errors import printable

Picture = Image.Image | NDArray[Any]
"""An image, or values (H, W) or (H, W, C) of more than 8 bits."""


class ImageSource(Protocol):
    """Images that can be read one at a time, by number."""

    @property
    def threads(self) -> bool:
        """True if several may be read at once."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> Picture: ...

    def name(self, index: int) -> str:
        """Return that image's name in messages."""

    def identity(self, index: int) -> Hashable:
        """Return a value that the same image has in another source, and no other image."""

    def key(self) -> str | None:
        """Return a text that other images don't have; None if it can't be known."""


@dataclass(frozen=True, slots=True, eq=False)
class Files:
    """Image files; messages name them relative to `root`."""

    paths: tuple[Path, ...]
    root: Path
    threads: bool = True

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> Image.Image:
        return Image.open(self.paths[index], formats=FORMATS)

    def name(self, index: int) -> str:
        return printable(str(self.paths[index].relative_to(self.root)))

    def identity(self, index: int) -> Hashable:
        stat = _stat(self.paths[index])  # a link is what it leads to
        return stat.st_dev, stat.st_ino

    def key(self) -> str:
        return stamp(self.paths)


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """Images in memory: numbers (N, H, W) or (N, H, W, C)."""

    array: NDArray[Any]
    label: str
    threads: bool = True

    def __len__(self) -> int:
        return len(self.array)

    def image(self, index: int) -> Picture:
        pixels = self.array[index]
        pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
        return Image.fromarray(pixels) if pixels.dtype == np.uint8 else pixels

    def name(self, index: int) -> str:
        return f"{self.label}[{index}]"

    def identity(self, index: int) -> Hashable:
        pixels = self.array[index]
        return pixels.shape, pixels.tobytes()

    def key(self) -> str:
        return digest(self.array)


def stamp(paths: Iterable[Path]) -> str:
    """Return a text that changes if a file is added, removed, renamed or written to."""
    stats = ((path, _stat(path)) for path in paths)
    return digest(*((os.fsencode(path.absolute()), stat.st_size, stat.st_mtime_ns) for path, stat in stats))


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError:  # a link that leads nowhere, or to itself
        return path.lstat()


def decode(image: Picture, *, channels: int, side: int, interpolation: str) -> Square:
    """Return an image's square: bytes, or float32 for wider values. Raises `ValueError`."""
    shape: Any = {"channels": channels, "side": side, "interpolation": interpolation}
    if isinstance(image, np.ndarray):
        return wide_square(image, **shape)
    # Big JPEGs are read at the smallest scale (a half, a quarter, an eighth) that still leaves twice the size.
    image.draft(None, (2 * side, 2 * side))
    values = wide_values(image)
    return byte_square(image, **shape) if values is None else wide_square(values, **shape)


def side_and_channels(image: Picture) -> tuple[int, int]:
    """Return the length of the shorter side, and 1 for a grey image, else 3."""
    if isinstance(image, np.ndarray):
        return min(image.shape[:2]), 1 if image.ndim == 2 or image.shape[2] == 2 else 3
    grey = image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I")
    return min(image.size), 1 if grey else 3
