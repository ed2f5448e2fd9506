"""Images as a task's inputs: raw ones, and those prepared for a network."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from search.data.decoding import ImageSource, Picture, side_and_channels
from search.data.examples import Examples, TaskData
from search.data.pixel_range import PixelRange
from search.data.squares import FILTERS
from search.errors import TaskError

Draws = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Images:
    """N raw images: row `rows[i]` of the source, turned by `turns[i]` quarters.

    pixel_range: the values that become 0 and 1; None for the default of `pixel_ranges`.
    """

    source: ImageSource
    rows: Tensor
    turns: Tensor
    pixel_range: PixelRange | None = None

    @classmethod
    def of(cls, source: ImageSource) -> "Images":
        """All images of a source, upright."""
        return cls(source=source, rows=torch.arange(len(source)), turns=torch.zeros(len(source), dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Picture:
        """Return one image of any size and mode. Raises any exception of its reader."""
        return self.source.image(int(self.rows[index]))

    def subset(self, indices: Tensor) -> "Images":
        return replace(self, rows=self.rows[indices], turns=self.turns[indices])

    def identities(self) -> list[Hashable]:
        return [self.source.identity(row) for row in self.rows.tolist()]

    def as_they_are(self) -> "ImageFormat":
        """Return a format that changes little, for a network that asks for none.

        Images become squares with the shorter side of the first that can be read. Grey images stay grey, and
        pixels become 0..1. Raises `TaskError` if none can be read.
        """
        for index in range(len(self)):
            try:
                image = self[index]
                side, channels = side_and_channels(image)
                if not isinstance(image, np.ndarray):
                    image.close()
            except Exception:
                continue
            return ImageFormat(size=side, resize=side, mean=(0.0,) * channels, std=(1.0,) * channels)
        raise TaskError(f"None of {len(self)} images can be read, the first is {self.source.name(int(self.rows[0]))}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFormat:
    """The images that a network takes: squares, normalised.

    resize, size: the shorter side becomes `resize`, of which the centre `size` x `size` is taken.
    mean, std: one a channel, of values in 0..1; one channel is grey, three are RGB.
    """

    size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.resize:
            raise ValueError(f"`size` must be from 1 to `resize` = {self.resize}, got {self.size}.")
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean) or min(self.std) <= 0:
            raise ValueError(f"`mean` and `std` must be 1 or 3 numbers, std > 0, got {self.mean} and {self.std}.")
        if self.interpolation not in FILTERS:
            raise ValueError(f"`interpolation` must be one of {', '.join(FILTERS)}, got {self.interpolation!r}.")

    @property
    def channels(self) -> int:
        return len(self.mean)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedImages:
    """N prepared images: row `rows[i]` of `pixels` (M, C, R, R), turned by `turns[i]` quarters.

    scale: float32 (M, 2), of each row of `pixels` a summand and a divisor that lead to 0 to 1. None: bytes of 0 to
    255. `pixels` may have one channel where the format has three.

    An augmented view is a pure function of (seed, row, view). So all trials see the same views, whatever their
    subset. `views` of them take turns; with `inf` each pass shows a new one.
    """

    pixels: NDArray[Any]
    rows: Tensor
    turns: Tensor
    format: ImageFormat
    scale: Tensor | None = None
    augment: tuple[str, ...] = ()
    views: float = inf
    seed: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def subset(self, indices: Tensor) -> "PreparedImages":
        return replace(self, rows=self.rows[indices], turns=self.turns[indices])

    def take(self, indices: Tensor, passes: Tensor | None) -> Tensor:
        """Return float32 (B, C, size, size), normalised: centres, or with `passes` (B,) augmented views."""
        if self.augment and passes is not None:
            pixels = self._augmented(indices, passes if self.views == inf else passes % int(self.views))
        else:
            pixels = self._centres(indices)
        mean, std = (torch.tensor(value)[:, None, None] * 255 for value in (self.format.mean, self.format.std))
        return (self._of_255(pixels, indices).float() - mean).div_(std)

    def cache_key(self, indices: Tensor, *, augmented: bool) -> tuple[Any, ...]:
        """Return everything that those inputs are made from; views are drawn by the rows' numbers."""
        rows = self.rows[indices]
        scale = None if self.scale is None else self.scale[rows]
        plain = (self.pixels[rows.numpy()], self.turns[indices], repr(self.format), scale)
        return (*plain, rows, self.augment, self.seed) if augmented else plain

    def pixels_of(self, indices: Tensor) -> Tensor:
        """Return centres to show, (B, C, size, size): uint8 or float32, 0 to 255."""
        return self._of_255(self._centres(indices), indices)

    def _centres(self, indices: Tensor) -> Tensor:
        return self._turned(_centre(self._stored(indices), self.format.size), indices)

    def _of_255(self, pixels: Tensor, indices: Tensor) -> Tensor:
        if self.scale is None:
            return pixels
        offset, span = self.scale[self.rows[indices]][:, :, None, None, None].unbind(1)
        return (pixels + offset).div_(span).mul_(255)

    def _augmented(self, indices: Tensor, views: Tensor) -> Tensor:
        size = self.format.size
        batch = self._stored(indices) if "crop" in self.augment else _centre(self._stored(indices), size)
        out = torch.empty(len(batch), batch.shape[1], size, size, dtype=batch.dtype)
        rows = self.rows[indices].tolist()
        for number, (row, view) in enumerate(zip(rows, views.tolist(), strict=True)):
            rng = np.random.default_rng([self.seed, row, view])
            picture = batch[number]
            for name, change in AUGMENTATIONS.items():
                draws = rng.random(5)
                if name in self.augment:
                    picture = change(picture, draws, size)
            out[number] = picture
        return self._turned(out, indices)

    def _stored(self, indices: Tensor) -> Tensor:
        return torch.from_numpy(self.pixels[self.rows[indices].numpy()])

    def _turned(self, pixels: Tensor, indices: Tensor) -> Tensor:
        turns = self.turns[indices]
        if not turns.any():
            return pixels
        return torch.stack([torch.rot90(one, turn, (-2, -1)) for one, turn in zip(pixels, turns.tolist(), strict=True)])


def _centre(pixels: Tensor, size: int) -> Tensor:
    edge = round((pixels.shape[-1] - size) / 2)
    return pixels[..., edge : edge + size, edge : edge + size]


def _random_crop(picture: Tensor, draws: Draws, size: int) -> Tensor:
    """Resize a random part of the area, at most 4:3 (Szegedy et al., 2015)."""
    side = picture.shape[-1]
    area, ratio = (0.5 + 0.5 * draws[0]) * side**2, (3 / 4) ** (1 - 2 * draws[1])
    height, width = (min(side, max(1, round((area * part) ** 0.5))) for part in (ratio, 1 / ratio))
    top, left = int(draws[2] * (side - height + 1)), int(draws[3] * (side - width + 1))
    part = picture[None, :, top : top + height, left : left + width]
    return interpolate(part, (size, size), mode="bilinear", antialias=True)[0]


def _random_flip(picture: Tensor, draws: Draws, size: int) -> Tensor:
    """Exchange left and right, every other time."""
    return picture.flip(-1) if draws[4] < 0.5 else picture


AUGMENTATIONS: dict[str, Callable[[Tensor, Draws, int], Tensor]] = {"crop": _random_crop, "flip": _random_flip}
"""Augmentations of a view, in this order; each takes five numbers drawn from [0, 1)."""


def rotations(data: TaskData) -> TaskData:
    """Return the task of predicting rotations of images (Gidaris et al., 2018).

    Labels are not used; an image makes four examples. Raises `TaskError` for other data.
    """

    def in_quarters(examples: Examples, _: str) -> Examples:
        quarters = torch.arange(4).repeat(len(examples))
        inputs, groups = examples.inputs, examples.groups
        groups = None if groups is None else groups.repeat_interleave(4)
        if isinstance(inputs, Images):
            images = inputs.subset(torch.arange(len(inputs)).repeat_interleave(4))
            return Examples(replace(images, turns=images.turns + quarters), quarters, groups)
        if not isinstance(inputs, Tensor) or inputs.ndim != 4 or inputs.shape[2] != inputs.shape[3]:
            raise TaskError(f"{data.origin}: rotations need images; these data are not images, or not square.")
        turned = torch.stack([inputs.rot90(turn, (2, 3)) for turn in range(4)], dim=1).flatten(0, 1)
        return Examples(turned, quarters, groups)

    names = ("0 degrees", "90 degrees", "180 degrees", "270 degrees")
    return data.map(in_quarters, classes=names)
