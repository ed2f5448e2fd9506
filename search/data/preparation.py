"""Raw images decoded for a network: unreadable ones named, the range measured."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search.data.decoded import Decoded, decoded
from search.data.examples import Examples
from search.data.images import ImageFormat, Images, PreparedImages
from search.data.pixel_range import offsets_and_spans, pixel_ranges
from search.errors import TaskError

MAX_UNREADABLE_SHARE = 0.01
"""The largest share of images that may be unreadable; one always may."""
MAX_NAMES = 3
"""Unreadable images that a message names."""


def prepare(
    parts: Sequence[Examples],
    format: ImageFormat,
    *,
    augment: tuple[str, ...] = (),
    views: float = inf,
    seed: int = 0,
    cache: Path | None = None,
) -> tuple[list[Examples], list[str]]:
    """Decode raw images for a network, each once; returns notes, too.

    parts: the pool, over which the range of the pixels' values is measured, and what evaluates.
    cache: a folder for the pixels, shared by processes and runs.

    Raises `TaskError` for inputs that are no images, and if too many images, or a whole class, can't be read.
    """
    shape: dict[str, Any] = {"channels": format.channels, "side": format.resize, "interpolation": format.interpolation}
    read = []
    for examples in parts:
        images = examples.inputs
        if not isinstance(images, Images):
            raise TaskError(f"the network takes images; these data are {type(images).__name__.lower()}s.")
        used, position = np.unique(images.rows.numpy(), return_inverse=True)
        result = decoded(images.source, used, **shape, cache=cache)
        read.append(_Part(examples=examples, images=images, used=used, position=position, decoded=result))
    notes = _check_readable(read)
    pool, *others = (part.decoded.values for part in read)
    ranges, measured = pixel_ranges(pool, [*chain(*others)], asked=read[0].images.pixel_range)
    ready = []
    for part in read:
        inputs = PreparedImages(
            pixels=part.decoded.pixels,
            rows=torch.from_numpy(part.position)[part.kept],
            turns=part.images.turns[part.kept],
            format=format,
            scale=offsets_and_spans(part.decoded.described, ranges),
            augment=augment,
            views=views,
            seed=seed,
        )
        ready.append(replace(part.examples.subset(part.kept), inputs=inputs))
    return ready, notes + measured


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Part:
    """Examples whose images are decoded.

    used: rows of the source, each once; position: of each example, where its row is among them.
    """

    examples: Examples
    images: Images
    used: NDArray[np.int64]
    position: NDArray[np.int64]
    decoded: Decoded

    @property
    def kept(self) -> Tensor:
        return torch.from_numpy(np.flatnonzero(~np.isin(self.position, [*self.decoded.reasons])))


def _check_readable(parts: Sequence[_Part]) -> list[str]:
    """Return a note that names all unreadable images. Raises `TaskError` for too many."""
    broken = [
        f"{part.images.source.name(int(part.used[number]))} ({reason})"
        for part in parts
        for number, reason in sorted(part.decoded.reasons.items())
    ]
    if not broken:
        return []
    total = sum(len(part.used) for part in parts)
    more = f"; and {len(broken) - MAX_NAMES} more" if len(broken) > MAX_NAMES else ""
    text = f"{len(broken)} of {total} images can't be read: {'; '.join(broken[:MAX_NAMES])}{more}."
    # A class that only the test set loses is still learnt.
    targets, kept = parts[0].examples.targets, parts[0].kept
    lost = not targets.is_floating_point() and len({*targets.tolist()}) > len({*targets[kept].tolist()})
    if lost or len(broken) > max(1, MAX_UNREADABLE_SHARE * total):
        raise TaskError(
            f"{text} At most {MAX_UNREADABLE_SHARE:.0%} are skipped (or one), and no whole class: "
            "repair or remove them."
        )
    return [f"{text} They are skipped."]
