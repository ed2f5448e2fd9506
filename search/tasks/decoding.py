"""Image files of every kind -> squares of bytes, decoded once and shared by processes."""

import json
import os
import shutil
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image, ImageOps

from search.errors import TaskError

Bytes = NDArray[np.uint8]
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_VERSION = 1  # of what `decode` makes; part of the cache's key


class ImageSource(Protocol):
    """Images that can be read one at a time, by number."""

    @property
    def threads(self) -> bool:
        """Whether several may be read at once."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image.Image: ...

    def name(self, index: int) -> str:
        """What messages call that image."""

    def key(self) -> str | None:
        """What tells these images from others, or None where that can't be known."""


@dataclass(frozen=True, slots=True, eq=False)
class Files:
    """Image files; messages name them relative to `root`."""

    paths: tuple[Path, ...]
    root: Path
    threads: bool = True

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> Image.Image:
        return Image.open(self.paths[index])

    def name(self, index: int) -> str:
        return str(self.paths[index].relative_to(self.root))

    def key(self) -> str:
        stamps = ((str(path.absolute()), path.stat()) for path in self.paths)
        text = "\n".join(f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stamps)
        return blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """Images in memory: bytes (N, H, W), or (N, H, W, C) with 1, 3 or 4 channels."""

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

    def key(self) -> str:
        return blake2b(np.ascontiguousarray(self.array).data, digest_size=16).hexdigest() + str(self.array.shape)


def decode(image: Image.Image, *, channels: int, side: int, interpolation: str) -> Bytes:
    """Bytes (channels, side, side): the image upright, its shorter side resized to `side`, its centre cut out.

    Transparent images stand on white, 16-bit ones keep their upper byte, and 1 channel is grey, 3 are RGB.
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
    """The image without transparency and with 8 bits a channel."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
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
    where: str,
) -> tuple[Bytes, dict[int, str]]:
    """Bytes (N, channels, side, side) of the images at these rows, and why some of the N could not be read.

    With a folder `cache` the bytes are a memory map of a file there, which one process makes while the others
    wait; it appears whole or not at all. What could not be read is black. Raises `TaskError`.
    """
    shape = (len(rows), channels, side, side)

    def fill(pixels: Bytes) -> dict[int, str]:
        def one(number: int) -> str | None:
            try:
                with source.image(int(rows[number])) as image:
                    pixels[number] = decode(image, channels=channels, side=side, interpolation=interpolation)
            except MemoryError:
                raise
            except Exception as error:  # Pillow's readers raise whatever their format's code runs into.
                return " ".join(str(error).split())[:100] or type(error).__name__
            return None

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata, palettes
            if source.threads:
                with ThreadPoolExecutor(os.cpu_count()) as pool:
                    reasons = list(pool.map(one, range(len(rows))))
            else:
                reasons = [one(number) for number in range(len(rows))]
        return {number: reason for number, reason in enumerate(reasons) if reason is not None}

    key = source.key()
    if cache is None or key is None or len(rows) == 0:
        pixels = np.zeros(shape, dtype=np.uint8)
        return pixels, fill(pixels)
    known = (_VERSION, key, channels, side, interpolation)
    digest = blake2b(repr(known).encode() + rows.tobytes(), digest_size=12).hexdigest()
    try:
        return _mapped(cache / f"images-{digest}.npy", shape, fill)
    except OSError as error:
        raise TaskError(f"{where}: the decoded images can't be kept in {cache}: {error.strerror or error}.") from error


def _mapped(file: Path, shape: tuple[int, ...], fill: Callable[[Any], dict[int, str]]) -> tuple[Bytes, dict[int, str]]:
    file.parent.mkdir(parents=True, exist_ok=True)
    broken = file.with_suffix(".json")
    with FileLock(file.with_suffix(".lock")):
        if not file.is_file():
            needed, free = int(np.prod(shape)), shutil.disk_usage(file.parent).free
            if needed > free:  # a memory map on a full disk would end the process without a word
                raise OSError(f"{needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")
            partial = file.with_suffix(".partial")
            pixels: Any = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
            broken.write_text(json.dumps(fill(pixels)))
            pixels.flush()
            partial.replace(file)
    reasons = {int(number): reason for number, reason in json.loads(broken.read_text()).items()}
    return np.load(file, mmap_mode="r"), reasons
