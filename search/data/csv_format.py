"""The form of a table's file: separator, quotes and header."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from typing import Annotated, TypedDict

from pydantic import AfterValidator, Field

from search.data.labels import Spellings
from search.data.numerals import Decimal, Numerals, Thousands, readings
from search.data.text_files import Encoding
from search.errors import TaskError

Names = Annotated[list[str], Field(min_length=1)]
SEPARATORS = (",", ";", "\t", "|", " ")
QUOTES = ('"', "", "'")
SEARCHED_LINES = 20
"""Lines in which to look for a header that is not the first line."""
EXCEL_LINE = re.compile(r'"?sep=(.)"?(\r\n|\r|\n)')
DOUBLED = re.compile(r'"(?:[^"]|"")*""(?:[^"]|"")*"')


def _check_separator(value: str) -> str:
    if value in '"\r\n\0':
        raise ValueError("one character")
    return value


def _check_quote(value: str) -> str:
    if value in ("\r", "\n", "\0"):
        raise ValueError("one character, or none")
    return value


Delimiter = Annotated[str, Field(min_length=1, max_length=1), AfterValidator(_check_separator)]
Quote = Annotated[str, Field(max_length=1), AfterValidator(_check_quote)]


class Format(TypedDict, total=False):
    """Options that say how a table is written.

    delimiter: the separator, by default a comma, or a tab in `.tsv`.
    encoding: by default UTF-8, or by the byte-order mark.
    quote: the character around cells, by default '"', or "" (none) in `.tsv`.
    header: the columns' names, of a file without a header.
    decimal: "," in "1,5"; by default ".".
    thousands: "." in "1.234,5"; by default none.
    spellings: "join" or "keep" labels that differ only in spelling; by default they are refused.
    """

    delimiter: Delimiter | None
    encoding: Encoding | None
    quote: Quote | None
    header: Names | None
    decimal: Decimal | None
    thousands: Thousands | None
    spellings: Spellings | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Separator, quotes, decimal sign, and the columns of a file without a header."""

    delimiter: str
    quote: str
    header: tuple[str, ...] | None = None
    decimal: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Grid:
    """Named columns, rows of as many cells, and the line on which each row ends."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]


def excel_separator(text: str) -> str | None:
    """Return the separator that a first line "sep=;" names, as spreadsheets write it."""
    found = EXCEL_LINE.match(text)
    return found[1] if found else None


def parse(text: str, layout: Layout, *, columns: Sequence[str]) -> Grid:
    """Read a rectangular table that has these columns. Raises `TaskError`, without the file's name."""
    rows, lines = _cells(text, layout)
    header = layout.header or (tuple(name.strip() for name in rows[0]) if rows else ())
    if layout.header is None:
        rows, lines = rows[1:], lines[1:]
    if not rows:
        raise TaskError("it needs a header and at least one row below it.")
    named = [name for name in header if name]
    twice = next((name for name in named if named.count(name) > 1), None)
    if twice is not None:
        raise TaskError(f"it has two columns {twice!r}.")
    _check_rectangle(header, rows, lines)
    if missing := next((name for name in columns if name not in header), None):
        raise TaskError(f"it has no column {missing!r}; its columns: {', '.join(header)[:300]}.")
    again = [line for row, line in zip(rows, lines, strict=True) if tuple(cell.strip() for cell in row) == header]
    if again:
        remedy = "the option header is for files without one" if layout.header else "delete that line"
        raise TaskError(f"line {again[0]}: it is the header{'' if layout.header else ' again'}; {remedy}.")
    return Grid(header, tuple(rows), tuple(lines))


def _check_rectangle(header: tuple[str, ...], rows: list[tuple[str, ...]], lines: list[int]) -> None:
    ragged = [(line, len(row)) for row, line in zip(rows, lines, strict=True) if len(row) != len(header)]
    if not ragged:
        return
    line, cells = ragged[0]
    count = f" ({len(ragged)} such lines)" if len(ragged) > 1 else ""
    raise TaskError(f"line {line}: {cells} cells under a header of {len(header)}{count}.")


def _cells(text: str, layout: Layout) -> tuple[list[tuple[str, ...]], list[int]]:
    """Return rows of cells and their last lines.

    Blank lines are left out if there are several columns, and below the last row.
    """
    csv.field_size_limit(2**31 - 1)
    above = 0
    if excel := EXCEL_LINE.match(text):
        text, above = text[excel.end() :], 1
    reader = csv.reader(
        StringIO(text, newline=""),  # `str.splitlines` would end lines where no file does, at U+2028 for one
        delimiter=layout.delimiter,
        quotechar=layout.quote or '"',
        quoting=csv.QUOTE_MINIMAL if layout.quote else csv.QUOTE_NONE,
        skipinitialspace=bool(layout.quote) and layout.delimiter != "\t",
        strict=True,
    )
    rows, lines, start = [], [], above + 1
    try:
        for row in reader:
            rows.append(tuple(row) or ("",))
            lines.append(reader.line_num + above)
            start = lines[-1] + 1
    except csv.Error as error:
        backslash = r"; a quote inside a quoted cell is written twice, not as \"" if '\\"' in text else ""
        raise TaskError(f"line {start}: {error}, in the row that begins there{backslash}.") from None
    while rows and not "".join(rows[-1]).strip():
        del rows[-1], lines[-1]
    single = max(map(len, rows), default=0) == 1  # there a blank line is a missing value
    kept = [at for at, row in enumerate(rows) if len(row) > 1 or row[0].strip() or (single and at)]
    return [rows[at] for at in kept], [lines[at] for at in kept]


def quotes_in_doubt(grid: Grid) -> int | None:
    """Return the line of a cell that seems quoted in a grid read without quotes."""
    for row, line in zip(grid.rows, grid.lines, strict=True):
        if any(cell[:1] == '"' and DOUBLED.fullmatch(cell.strip()) for cell in row):
            return line
    for column in range(len(grid.header)):
        cells = (row[column].strip() for row in grid.rows)
        if all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells):
            return grid.lines[0]
    return None


def keys_to_set(text: str, layout: Layout, *, columns: Sequence[str]) -> list[str]:
    """Return keys and values that make a table of these columns; [] if none do."""
    for other in _others(layout):
        try:
            grid = parse(text, other, columns=columns)
        except TaskError:
            continue
        return [*_changed(layout, other), *([] if layout.decimal else _decimal_keys(grid))]
    return []


def header_hint(text: str, layout: Layout, *, columns: Sequence[str]) -> str:
    """Say how the header is wrong: further down, missing, or short of a name."""
    seen: list[tuple[Layout, list[tuple[str, ...]]]] = []
    for other in _others(layout):
        try:
            rows, lines = _cells(text, other)
        except TaskError:
            continue
        if not rows or {*columns} <= {cell.strip() for cell in rows[0]}:
            continue
        seen.append((other, rows))
        for row, line in zip(rows[1:SEARCHED_LINES], lines[1:SEARCHED_LINES], strict=False):
            if {*columns} <= {cell.strip() for cell in row}:
                keys = "".join(f", and set option {', '.join(keys)}" for keys in [_changed(layout, other)] if keys)
                return f"line {line} is the header: delete the lines above it{keys}"
    return _missing_header(layout, seen, columns) or _short_header(text, layout)


def _missing_header(layout: Layout, seen: list[tuple[Layout, list[tuple[str, ...]]]], columns: Sequence[str]) -> str:
    fits = {
        other: len(rows[0])
        for other, rows in seen
        if len({len(row) for row in rows}) == 1 and len(rows[0]) >= len(columns) and other.delimiter != " "
        if not {*columns} & {cell.strip() for cell in rows[0]}
    }
    wide = [other for other, width in fits.items() if width == max(len(columns), 2)]
    wide = wide or [other for other, width in fits.items() if width > 1] or [*fits][:1]
    said: dict[str, str] = {}
    for other in wide:
        more = f" (with {fits[other]} names)" if fits[other] > len(columns) else ""
        names = json.dumps([*columns, *["..."][: fits[other] - len(columns)]], ensure_ascii=False)
        said.setdefault(other.delimiter, f"{', '.join([*_changed(layout, other), f'header = {names}'])}{more}")
    return f"if its first line is no header, set option {', or '.join(said.values())}" if said else ""


def _short_header(text: str, layout: Layout) -> str:
    try:
        rows, _ = _cells(text, layout)
    except TaskError:
        return ""
    width = len(layout.header or rows[0]) if rows else 0
    body = rows if layout.header else rows[1:]
    name = (
        body and all(len(row) == width + 1 for row in body) and "add a name for the first or last column to the header"
    )
    quotes = layout.quote and any(len(row) > width for row in body) and f"quote cells that hold {layout.delimiter!r}"
    return ", or ".join(hint for hint in (name, quotes) if hint)


def _others(layout: Layout) -> Iterator[Layout]:
    """Yield all layouts, this one and its nearest first."""
    found = [replace(layout, delimiter=one, quote=quote) for one in SEPARATORS for quote in QUOTES]
    yield from sorted({layout: None, **dict.fromkeys(found)}, key=lambda other: len(_changed(layout, other)))


def _changed(layout: Layout, other: Layout) -> list[str]:
    pairs = (("delimiter", layout.delimiter, other.delimiter), ("quote", layout.quote, other.quote))
    return [f"{key} = {json.dumps(new, ensure_ascii=False)}" for key, old, new in pairs if old != new]


def _decimal_keys(grid: Grid) -> list[str]:
    """Return the keys of decimal commas if a column has no other reading."""
    found: list[str] = []
    for column in range(len(grid.header)):
        first = next(iter(readings([row[column] for row in grid.rows])), Numerals())
        keys = ['decimal = ","', *([f'thousands = "{first.thousands}"'] if first.thousands else [])]
        if first.decimal == "," and len(keys) > len(found):
            found = keys
    return found
