"""Central squares of images of 8 bits a channel, and the values that images have."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from search.array_file import Bytes

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats of image files, whatever their names: for PostScript, Pillow would start Ghostscript."""
KINDS = ("bytes", "integers", "floats")
"""Kinds of values: 8 bits a channel, wider whole numbers, decimal numbers."""


class Values(NamedTuple):
    """The values of one image: their kind, the lowest and the highest.

    98 % of them are from `inner_low` to `inner_high`; for bytes these are the lowest and the highest.
    """

    kind: str
    low: float
    inner_low: float
    inner_high: float
    high: float


class Square(NamedTuple):
    """One image's square: bytes, or float32 above its lowest value, (C, side, side).

    described: its values, or the reason why it can't be read.
    """

    pixels: NDArray[Any]
    described: Values | str


def byte_square(image: Image.Image, *, channels: int, side: int, interpolation: str) -> Square:
    """Return bytes (channels, side, side): the upright image's centre, its shorter side resized.

    Transparent images are put on white. 1 channel is grey, 3 are RGB. Raises `ValueError`.
    """
    image = _without_alpha(ImageOps.exif_transpose(image)).convert("L" if channels == 1 else "RGB")
    pixels = np.asarray(central_square(image, side=side, interpolation=interpolation))
    square: Bytes = np.ascontiguousarray(pixels.reshape(side, side, channels).transpose(2, 0, 1))
    low, high = float(square.min()), float(square.max())
    return Square(square, Values("bytes", low, low, high, high))


def central_square(image: Image.Image, *, side: int, interpolation: str) -> Image.Image:
    """Return the image's centre, its shorter side resized to `side`. Raises `ValueError`."""
    width, height = image.size
    shorter = min(width, height)
    if max(width, height) > 100 * shorter:
        raise ValueError(f"{width} x {height} pixels are too narrow")
    size = (side * width // shorter, side * height // shorter)
    if size != image.size:
        image = image.resize(size, FILTERS[interpolation])
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    return image.crop((left, top, left + side, top + side))


def _without_alpha(image: Image.Image) -> Image.Image:
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image)
    return image
