"""Image files of every kind -> squares of bytes, decoded once and shared by processes."""

import json
import os
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from search.array_file import ArrayWriter, BrokenArray, Bytes, read_array
from search.digest import digest
from search.errors import TaskError, printable
from search.files import replacing

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats of image files, whatever their names: for PostScript, Pillow would start Ghostscript."""
IMAGES_AT_ONCE = 512
"""Images that are decoded before they are written: memory stays small."""
_VERSION = 2  # of the result of `decode`; part of the cache's key


class ImageSource(Protocol):
    """Images that can be read one at a time, by number."""

    @property
    def threads(self) -> bool:
        """True if several may be read at once."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image.Image: ...

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
    """Images in memory: bytes (N, H, W) or (N, H, W, C)."""

    array: Bytes
    label: str
    threads: bool = True

    def __len__(self) -> int:
        return len(self.array)

    def image(self, index: int) -> Image.Image:
        pixels = self.array[index]
        return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)

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


def decode(image: Image.Image, *, channels: int, side: int, interpolation: str) -> Bytes:
    """Return bytes (channels, side, side): the upright image's centre, its shorter side resized.

    Transparent images are put on white, 16-bit ones keep their upper byte. 1 channel is grey, 3 are RGB.
    """
    # Big JPEGs are read at the smallest scale (a half, a quarter, an eighth) that still leaves twice the size.
    image.draft(None, (2 * side, 2 * side))
    image = _plain(ImageOps.exif_transpose(image)).convert("L" if channels == 1 else "RGB")
    width, height = image.size
    shorter = min(width, height)
    if max(width, height) > 100 * shorter:
        raise ValueError(f"{width} x {height} pixels are too narrow")
    size = (side * width // shorter, side * height // shorter)
    if size != image.size:
        image = image.resize(size, FILTERS[interpolation])
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    pixels = np.asarray(image.crop((left, top, left + side, top + side)))
    return np.ascontiguousarray(pixels.reshape(side, side, channels).transpose(2, 0, 1))


def _plain(image: Image.Image) -> Image.Image:
    """Return the image without transparency and with 8 bits a channel."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        if not np.isfinite(values).all():
            raise ValueError("pixels that are NaN or infinite")
        if values.dtype.kind == "f" and values.max() <= 1:
            values = values * 255
        elif values.dtype.kind == "u" or values.max() > 255:
            values = values / 257
        return Image.fromarray(values.clip(0, 255).astype(np.uint8))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image)
    return image


def decoded(
    source: ImageSource,
    rows: NDArray[np.int64],
    *,
    channels: int,
    side: int,
    interpolation: str,
    cache: Path | None,
) -> tuple[Bytes, dict[int, str]]:
    """Decode images at N rows: bytes (N, channels, side, side), and reasons by number.

    With a folder `cache` the bytes are a memory map of a file there. One process writes it while the others wait;
    it appears whole or not at all. Unreadable images are black. Raises `TaskError`.
    """
    shape = (len(rows), channels, side, side)

    def one(row: int) -> Bytes | str:
        try:
            with source.image(int(row)) as image:
                return decode(image, channels=channels, side=side, interpolation=interpolation)
        except MemoryError:
            raise
        except Exception as error:  # Pillow's readers raise whatever their format's code runs into.
            return _reason(error)

    def read(take: Callable[[int, Bytes], Any]) -> dict[int, str]:
        reasons: dict[int, str] = {}
        for number, made in enumerate(_in_order(one, rows, threads=source.threads)):
            if isinstance(made, str):
                reasons[number] = made
                made = np.zeros(shape[1:], dtype=np.uint8)
            take(number, made)
        return reasons

    key = source.key()
    if cache is None or key is None or len(rows) == 0:
        pixels = np.empty(shape, dtype=np.uint8)
        return pixels, read(pixels.__setitem__)
    name = digest(_VERSION, key, channels, side, interpolation, rows)
    try:
        return _kept(cache / f"images-{name}.npy", shape, read)
    except OSError as error:
        raise TaskError(f"the decoded images can't be kept in {cache}: {error.strerror or error}.") from error


def _in_order(one: Callable[[int], Bytes | str], rows: NDArray[np.int64], *, threads: bool) -> Iterator[Bytes | str]:
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # odd metadata, palettes
        for start in range(0, len(rows), IMAGES_AT_ONCE):
            yield from (pool.map if threads else map)(one, rows[start : start + IMAGES_AT_ONCE])


def _kept(
    file: Path, shape: tuple[int, ...], read: Callable[[Callable[[int, Bytes], Any]], dict[int, str]]
) -> tuple[Bytes, dict[int, str]]:
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):
        with suppress(BrokenArray, OSError, ValueError, RecursionError):  # what does not fit is decoded again
            return read_array(file, shape, checked=False), _reasons(file.with_suffix(".json"), shape[0])
        for left in file.parent.glob(f"{file.stem}.*.partial"):  # by a process that was killed
            left.unlink()
        with replacing(file) as stream:
            writer = ArrayWriter(stream, shape)
            reasons = read(lambda number, made: writer.write(made))
            writer.finish()
            with replacing(file.with_suffix(".json")) as broken:
                broken.write(json.dumps(reasons).encode())
        return read_array(file, shape, checked=False), reasons


def _reasons(file: Path, examples: int) -> dict[int, str]:
    """Return why images could not be read, by number. Raises `ValueError`."""
    table = json.loads(file.read_text()) if file.is_file() else None
    if not isinstance(table, dict):
        raise ValueError(f"{file} is no table.")
    reasons = {int(number): printable(str(text)) for number, text in table.items()}
    if not all(0 <= number < examples for number in reasons):
        raise ValueError(f"{file} is of other images.")
    return reasons


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is no image"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(printable(text).split())[:100] or type(error).__name__
