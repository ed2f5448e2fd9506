"""Images of more than 8 bits a channel: values from files, and squares."""

from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from search.data.squares import FORMATS, Square, Values, central_square

Array = NDArray[Any]
QUANTILES = (0.01, 0.99)
"""The share of an image's values below its `inner_low`, and below its `inner_high`."""
MAX_VALUES_RANKED = 10_000
"""Values of an image, evenly spaced, from which its quantiles are taken."""
GREY_WEIGHTS = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R 601-2), as Pillow's."""
NATIVE_ORDER = {"I;16BS": "I;16S", "I;32BS": "I;32S", "F;32BF": "F;32F"}
"""Layouts of compressed big-endian TIFF files: as Pillow assumes, as libtiff delivers."""
OTHER_HALF = {"B": "L", "L": "B", "N": "B"}
"""Byte orders with which Pillow keeps the upper 8 of 16 bits, and the lower."""
_BITS, _PLANES, _SAMPLE_FORMAT = 258, 284, 339  # tags of a TIFF file
_SIGNED = 2


@dataclass(frozen=True, slots=True)
class _Layout:
    """Order of an unread file's pixels, as Pillow names it; else ""."""

    rawmode: str
    codec: str

    @classmethod
    def of(cls, image: Image.Image) -> "_Layout":
        tiles = getattr(image, "tile", None)
        if not tiles:
            return cls("", "")
        arguments = tiles[0].args
        return cls(str(arguments if isinstance(arguments, str) else (arguments or ("",))[0]), tiles[0].codec_name)


def wide_values(image: Image.Image) -> Array | None:
    """Return upright values (H, W) or (H, W, C); None for 8 bits a channel.

    Pillow drops the lower 8 of 16 bits in colour, so those files are read twice. Raises `ValueError`.
    """
    layout, tags = _Layout.of(image), getattr(image, "tag_v2", {})
    if image.mode.startswith(("I", "F")):
        return _single_channel(image, layout, tags)
    if image.mode == "L" and _SIGNED in tags.get(_SAMPLE_FORMAT, ()):
        return np.asarray(ImageOps.exif_transpose(image)).view(np.int8)
    if max(tags.get(_BITS, (8,))) > 8 and tags.get(_PLANES) == 2:
        raise ValueError("channels of 16 bits in separate planes; store them interleaved")
    if layout.codec.startswith("ppm") and image.tile[0].args[-1] > 255:  # type: ignore[attr-defined]
        return _wide_ppm(image, layout)
    if ";16" in layout.rawmode:
        return _wide_colours(image, layout)
    return None


def _single_channel(image: Image.Image, layout: _Layout, tags: Any) -> Array:
    if layout.codec == "libtiff" and layout.rawmode in NATIVE_ORDER:
        _read_as(image, NATIVE_ORDER[layout.rawmode])
    values = np.asarray(ImageOps.exif_transpose(image))
    unsigned = 32 in tags.get(_BITS, ()) and values.dtype == np.int32 and _SIGNED not in tags.get(_SAMPLE_FORMAT, ())
    return values.view(np.uint32) if unsigned else values


def _wide_colours(image: Image.Image, layout: _Layout) -> Array:
    content = _content(image)
    if layout.rawmode == "LA;16B":  # read as four channels of 8 bits: grey and alpha, each in two halves
        halves = _opened(content, "RGBA").astype(np.uint16)
        return halves[..., ::2] << 8 | halves[..., 1::2]
    upper = _opened(content, layout.rawmode).astype(np.uint16)
    lower = _opened(content, layout.rawmode[:-1] + OTHER_HALF[layout.rawmode[-1]])
    values: Array = upper << 8 | lower
    if image.mode != "CMYK":
        return values
    ink = 1 - values.astype(np.float64) / 65535
    return (ink[..., :3] * ink[..., 3:] * 65535).round().astype(np.uint16)


def _wide_ppm(image: Image.Image, layout: _Layout) -> Array:
    if layout.codec != "ppm":
        raise ValueError("colours of 16 bits in a text file; store them as binary PPM or PNG")
    start = image.tile[0].offset  # type: ignore[attr-defined]
    width, height = image.size
    return np.frombuffer(_content(image), ">u2", 3 * width * height, start).reshape(height, width, 3)


def _content(image: Image.Image) -> bytes:
    file: Any = image.fp  # type: ignore[attr-defined]
    file.seek(0)
    return bytes(file.read())


def _opened(content: bytes, rawmode: str) -> Array:
    with Image.open(BytesIO(content), formats=FORMATS) as image:
        _read_as(image, rawmode)
        return np.asarray(ImageOps.exif_transpose(image))


def _read_as(image: Any, rawmode: str) -> None:
    image.tile = [
        tile._replace(args=rawmode if isinstance(tile.args, str) else (rawmode, *tile.args[1:])) for tile in image.tile
    ]


def wide_square(values: Array, *, channels: int, side: int, interpolation: str) -> Square:
    """Return the centre above its lowest value, float32 (1 or C, side, side).

    values: (H, W), or (H, W, C) of grey, grey and alpha, RGB, or RGBA. Grey images keep one channel.
    Raises `ValueError`.
    """
    planes = values[..., None] if values.ndim == 2 else values
    if not np.isfinite(planes).all():
        raise ValueError("pixels that are NaN or infinite")
    planes = _on_white(planes)
    low, high = planes.min(), planes.max()
    ranked = planes.reshape(-1)[:: -(-planes.size // MAX_VALUES_RANKED)]
    inner_low, inner_high = (float(np.quantile(ranked, share)) for share in QUANTILES)
    kind = "floats" if values.dtype.kind == "f" else "integers"
    described = Values(kind, float(low), inner_low, inner_high, float(high))
    above = (planes.astype(np.float64) - float(low)).astype(np.float32)
    if above.shape[2] == 3 and channels == 1:
        above = above @ np.array(GREY_WEIGHTS, dtype=np.float32)[:, None]
    squares = [
        np.asarray(central_square(Image.fromarray(plane), side=side, interpolation=interpolation))
        for plane in np.ascontiguousarray(above.transpose(2, 0, 1))
    ]
    return Square(np.stack(squares), described)


def _on_white(planes: Array) -> Array:
    """Put a transparent image on its own highest value; a constant alpha says nothing."""
    if planes.shape[2] in (1, 3):
        return planes
    colours, alpha = planes[..., :-1], planes[..., -1:].astype(np.float64)
    if alpha.min() == alpha.max():
        return colours
    visible = alpha / alpha.max()
    white = colours[np.broadcast_to(alpha > 0, colours.shape)].max()
    mixed: Array = colours * visible + white * (1 - visible)
    return mixed if colours.dtype.kind == "f" else np.asarray(mixed.round(), dtype=colours.dtype)
