"""Range of pixel values that becomes 0 to 1: conventional, measured or asked for."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from search.data.squares import KINDS, Values

PixelRange = tuple[float, float]
"""The values that become 0 and 1."""
MIN_USED_SHARE = 0.25
"""The share of the range that most values use, below which a note names theirs."""
VERBS = {"bytes": "have 8 bits a channel", "integers": "have more than 8 bits a channel", "floats": "are decimal"}


def pixel_ranges(
    pool: Sequence[Values], others: Sequence[Values], *, asked: PixelRange | None
) -> tuple[dict[str, PixelRange], list[str]]:
    """Return the range of each kind of values, and notes.

    asked: the range of all kinds. Otherwise bytes have 0 to 255, and decimals within 0 to 1 have 0 to 1. Others have
    the lowest and the highest value of the pool. Values beyond it are not clipped.
    """
    ranges, notes = {}, []
    total = len(pool) + len(others)
    for kind in KINDS:
        learned, held = ([one for one in part if one.kind == kind] for part in (pool, others))
        if not learned and not held:
            continue
        used, seen = _extent(learned or held), _extent(learned + held)
        fixed = asked or _conventional(kind, used)
        low, high = ranges[kind] = fixed or used
        facts = []
        if fixed is None or seen[0] < low or seen[1] > high or len(learned) + len(held) < total:
            facts.append(f"{_text(low)} to {_text(high)} become 0 to 1")
        if fixed is None:
            part = f"all {len(learned)} in the pool" if learned else f"the {len(held)} that evaluate"
            facts.append(f"measured over {part}; pixel_range = [low, high], beside data, sets another")
        if seen[0] < low or seen[1] > high:
            facts.append(f"values from {_text(seen[0])} to {_text(seen[1])} occur and are not clipped")
        if not asked and (most := _few_used(kind, learned or held, low=low, high=high)):
            facts.append(most)
        if facts:
            notes.append(f"{len(learned) + len(held)} of {total} images {VERBS[kind]}: {'; '.join(facts)}.")
    return ranges, notes


def offsets_and_spans(described: Sequence[Values | str], ranges: dict[str, PixelRange]) -> Tensor | None:
    """Return a summand and a divisor of each image, float32 (N, 2), or None.

    Stored pixels plus the first, over the second, are 0 to 1. None: all are bytes of 0 to 255.
    """
    if ranges.keys() <= {"bytes"} and ranges.get("bytes", (0, 255)) == (0, 255):
        return None
    rows = torch.tensor([[0.0, 1.0]]).repeat(len(described), 1)
    for number, one in enumerate(described):
        if isinstance(one, Values):
            low, high = ranges[one.kind]
            stored_from = 0.0 if one.kind == "bytes" else one.low
            rows[number] = torch.tensor([stored_from - low, high - low if high > low else 1.0])
    return rows


def _extent(values: Sequence[Values]) -> PixelRange:
    return min(one.low for one in values), max(one.high for one in values)


def _conventional(kind: str, used: PixelRange) -> PixelRange | None:
    if kind == "bytes":
        return 0.0, 255.0
    return (0.0, 1.0) if kind == "floats" and used[0] >= 0 and used[1] <= 1 else None


def _few_used(kind: str, values: Sequence[Values], *, low: float, high: float) -> str:
    """Name the values of most pixels, if few: of bytes, if all are dark."""
    if kind == "bytes":
        first, last = 0.0, _extent(values)[1]
    else:
        first = float(np.percentile([one.inner_low for one in values], 1))
        last = float(np.percentile([one.inner_high for one in values], 99))
    if kind == "integers":
        first, last = math.floor(first), math.ceil(last)
    if not 0 < last - first < MIN_USED_SHARE * (high - low):
        return ""
    share, ends = ("all" if kind == "bytes" else "most"), (_text(first), _text(last))
    return f"{share} values are {' to '.join(ends)}, which pixel_range = [{', '.join(ends)}] spreads"


def _text(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.6g}"
