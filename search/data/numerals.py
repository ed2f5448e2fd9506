"""Numbers as people write them: decimal commas, and thousands in groups of three."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Decimal = Literal[".", ","]
Thousands = Literal[",", ".", " ", "'"]

SPACES = re.compile("[\u00a0\u2009\u202f]")
NOTATIONS: tuple[tuple[Decimal, Thousands | None], ...] = (
    (".", None), (",", None), (".", ","), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'"),
)  # fmt: skip
GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+")
MISSING = ("", "?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerals:
    """A notation of numbers; with `decimal` None, points may turn out to group thousands."""

    decimal: Decimal | None = None
    thousands: Thousands | None = None

    def number(self, cell: str) -> float | None:
        """Return a cell's number; NaN if it is missing, None if it is none."""
        text = cell.strip()
        if text in MISSING:
            return math.nan
        if self.thousands is not None:
            text = SPACES.sub(" ", text).replace("\u2019", "'")
            if self.thousands in text:
                group, point = re.escape(self.thousands), re.escape(self.decimal or ".")
                if not re.fullmatch(rf"[+-]?\d{{1,3}}({group}\d{{3}})+({point}\d*)?", text):
                    return None
                text = text.replace(self.thousands, "")
        if self.decimal == ",":
            if "." in text:
                return None
            text = text.replace(",", ".")
        try:
            return float(text) if "_" not in text else None
        except ValueError:
            return None

    def doubtful(self, cells: Iterable[str]) -> bool:
        """Return true for points that look like groups of thousands: "950", "1.020", "12.500"."""
        if self.decimal is not None or self.thousands is not None:
            return False
        texts = {cell.strip() for cell in cells}
        points = [text for text in texts if "." in text]
        whole = [text for text in texts if "." not in text and re.fullmatch(r"[+-]?\d{1,3}", text)]
        return bool(points and whole) and all(GROUPED.fullmatch(text) for text in points) and (
            len(points) + len(whole) == len(texts)
        )  # fmt: skip


def readings(cells: Sequence[str]) -> list[Numerals]:
    """Return the notations, likely ones first, in which every cell is a number or missing."""
    distinct = {cell.strip() for cell in cells} - {*MISSING}
    tried = [Numerals(decimal=decimal, thousands=thousands) for decimal, thousands in NOTATIONS]
    return [one for one in tried if distinct and all(one.number(cell) is not None for cell in distinct)]


def notation_keys(cells: Sequence[str], cell: str) -> str:
    """Say which keys make all cells of a column numbers, or what else helps.

    cell: the one that is no number; "" is returned if it has no digit.
    """
    found: dict[float | None, str] = {}
    for one in readings(cells):
        keys = [
            f'{key} = "{value}"' for key, value in (("decimal", one.decimal), ("thousands", one.thousands)) if value
        ]
        needed = keys[1:] if len(keys) > 1 and one.decimal == "." else keys
        found.setdefault(one.number(cell), f"option {', '.join(needed)}")
    if len(found) == 1:
        return f"set {next(iter(found.values()))}"
    if found:
        return "set " + ", or ".join(f"{keys} to read it as {value:.12g}" for value, keys in found.items())
    return "write it as a plain number" if re.search(r"\d", cell) else ""
