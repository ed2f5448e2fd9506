"""Text tables: CSV and TSV files with a header, read strictly."""

import csv
import math
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from search.errors import TaskError

Columns = Annotated[list[str], Field(min_length=1)]
Delimiter = Annotated[str, Field(min_length=1, max_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The rows of a file, as texts, and the line of the file on which each ends; `where` starts every message."""

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    where: str

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[str]:
        """The cells of a column, without spaces around them. Raises `TaskError` where one is empty or NaN."""
        index = self._index(name)
        cells = [row[index].strip() for row in self.rows]
        missing = [row for row, cell in enumerate(cells) if cell in ("", "nan", "NaN")]
        if missing:
            what = f"column {name!r} is {cells[missing[0]] or 'empty'}"
            raise self._broken([self.lines[row] for row in missing], what)
        return cells

    def numbers(self, names: list[str]) -> NDArray[np.float64]:
        """The cells of some columns as numbers (N, K). Raises `TaskError` where one isn't a finite number."""
        columns = [[_number(row[self._index(name)]) for row in self.rows] for name in names]
        values = np.array(columns, dtype=np.float64).T.reshape(len(self), len(names))
        broken = ~(np.abs(values) <= np.finfo(np.float32).max)  # which is what networks take
        for row, column in np.argwhere(broken):
            cell, name = self.rows[row][self._index(names[column])], names[column]
            lines = [self.lines[index] for index in np.flatnonzero(broken[:, column])]
            raise self._broken(lines, f"column {name!r} has {cell[:40]!r}, which is not a finite number")
        return values

    def numeric(self, *, beside: set[str]) -> list[str]:
        """The other columns that start with a number, or with a cell that should be one and is empty."""
        first = self.rows[0] if self.rows else ()
        others = [name for name in self.header if name not in beside]
        return [name for name in others if not (cell := first[self._index(name)]).strip() or _number(cell) is not None]

    def _index(self, name: str) -> int:
        if name not in self.header:
            columns = ", ".join(self.header)[:300]
            raise TaskError(f"{self.where}: {self.path} has no column {name!r}; its columns: {columns}.")
        return self.header.index(name)

    def _broken(self, lines: list[int], what: str) -> TaskError:
        count = f" ({len(lines)} such lines)" if len(lines) > 1 else ""
        return TaskError(f"{self.where}: {self.path}, line {lines[0]}: {what}{count}.")


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None if cell.strip() not in ("", "?") else math.nan


def read_table(path: Path, *, where: str, delimiter: str | None = None) -> Table:
    """A file with a header, comma-separated, or tab-separated and then without quoting. Raises `TaskError`."""
    text = read_text(path, where=where)
    tabs = path.suffix.lower() == ".tsv"
    # Quotes are plain characters in the tab-separated files that data sets come in: one of them alone would
    # swallow the lines that follow.
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(
        StringIO(text, newline=""),  # `str.splitlines` would end lines where no file does, at U+2028 for one
        delimiter=delimiter or ("\t" if tabs else ","),
        quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
        strict=True,
    )
    rows, lines = [], []
    try:
        for row in reader:
            if len(row) > 1 or "".join(row).strip():
                rows.append(tuple(row))
                lines.append(reader.line_num)
    except csv.Error as error:
        raise TaskError(f"{where}: {path}, line {reader.line_num}: {error}.") from None
    if len(rows) < 2:
        raise TaskError(f"{where}: {path} needs a header and at least one row below it.")
    header = tuple(name.strip() for name in rows[0])
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise TaskError(f"{where}: {path} has two columns {twice!r}.")
    ragged = [line for row, line in zip(rows, lines, strict=True) if len(row) != len(header)]
    table = Table(path=path, header=header, rows=tuple(rows[1:]), lines=tuple(lines[1:]), where=where)
    if ragged:
        cells = len(next(row for row in rows if len(row) != len(header)))
        raise table._broken(ragged, f"{cells} cells under a header of {len(header)}")
    return table


def read_text(path: Path, *, where: str) -> str:
    """A UTF-8 file's text. Raises `TaskError`, naming the line that is something else."""
    try:
        content = path.read_bytes()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise TaskError(f"{where}: {path}, line {line}: it is not UTF-8 text; save the file as UTF-8.") from None
    except (OSError, ValueError) as error:  # the latter of a name that no file can have
        raise TaskError(f"{where}: {path}: {getattr(error, 'strerror', None) or error}.") from None
