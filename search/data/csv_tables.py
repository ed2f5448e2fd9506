"""CSV and TSV files with a header, read strictly, and labels as class indices."""

import csv
import math
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from search.errors import TaskError

Columns = Annotated[list[str], Field(min_length=1)]
Delimiter = Annotated[str, Field(min_length=1, max_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The rows of a file, as texts, and the line on which each ends."""

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[str]:
        """Return a column's cells, stripped. Raises `TaskError` for an empty cell or NaN."""
        index = self._index(name)
        cells = [row[index].strip() for row in self.rows]
        missing = [row for row, cell in enumerate(cells) if cell in ("", "nan", "NaN")]
        if missing:
            what = f"column {name!r} is {cells[missing[0]] or 'empty'}"
            raise self._broken([self.lines[row] for row in missing], what)
        return cells

    def numbers(self, names: list[str]) -> NDArray[np.float64]:
        """Return columns as finite numbers (N, K). Raises `TaskError` for another cell."""
        columns = [[_number(row[self._index(name)]) for row in self.rows] for name in names]
        values = np.array(columns, dtype=np.float64).T.reshape(len(self), len(names))
        broken = ~(np.abs(values) <= np.finfo(np.float32).max)  # networks take float32
        for row, column in np.argwhere(broken):
            cell, name = self.rows[row][self._index(names[column])], names[column]
            lines = [self.lines[index] for index in np.flatnonzero(broken[:, column])]
            raise self._broken(lines, f"column {name!r} has {cell[:40]!r}, which is not a finite number")
        return values

    def targets(self, names: list[str]) -> Tensor:
        """Return numbers to predict, float32: (N,) of one column, (N, K) of several. Raises `TaskError`."""
        numbers = torch.from_numpy(self.numbers(names)).float()
        return numbers[:, 0] if len(names) == 1 else numbers

    def numeric(self, *, beside: set[str]) -> list[str]:
        """Name the other columns of numbers: their first cell is a number, or empty."""
        first = self.rows[0] if self.rows else ()
        others = [name for name in self.header if name not in beside]
        return [name for name in others if not (cell := first[self._index(name)]).strip() or _number(cell) is not None]

    def _index(self, name: str) -> int:
        if name not in self.header:
            columns = ", ".join(self.header)[:300]
            raise TaskError(f"{self.path} has no column {name!r}; its columns: {columns}.")
        return self.header.index(name)

    def _broken(self, lines: list[int], what: str) -> TaskError:
        count = f" ({len(lines)} such lines)" if len(lines) > 1 else ""
        return TaskError(f"{self.path}, line {lines[0]}: {what}{count}.")


def class_indices(
    labels: list[str], *, names: tuple[str, ...] = (), at_least: int = 1
) -> tuple[Tensor, tuple[str, ...]]:
    """Return labels as class indices (N,), and the names of the classes.

    names: the classes, if they are known; else they are the labels, sorted, as numbers if all are whole numbers.
    Raises `TaskError` for a label that is not among the names, or for fewer classes than `at_least`.
    """
    known = names
    if not known:
        distinct = set(labels)
        try:
            known = tuple(sorted(distinct, key=int))
        except ValueError:
            known = tuple(sorted(distinct))
    index = {name: number for number, name in enumerate(known)}
    if len(known) < at_least:
        raise TaskError(f"all labels are {known[0]!r}; at least {at_least} classes are needed.")
    try:
        return torch.tensor([index[label] for label in labels], dtype=torch.int64), known
    except KeyError as error:
        raise TaskError(f"the test data have the label {error}, which the others don't have.") from None


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None if cell.strip() not in ("", "?") else math.nan


def read_table(path: Path, *, delimiter: str | None = None) -> Table:
    """Read a file with a header, comma-separated, or tab-separated and then without quoting. Raises `TaskError`."""
    text = read_text(path)
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
        raise TaskError(f"{path}, line {reader.line_num}: {error}.") from None
    if len(rows) < 2:
        raise TaskError(f"{path} needs a header and at least one row below it.")
    header = tuple(name.strip() for name in rows[0])
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise TaskError(f"{path} has two columns {twice!r}.")
    ragged = [line for row, line in zip(rows, lines, strict=True) if len(row) != len(header)]
    table = Table(path=path, header=header, rows=tuple(rows[1:]), lines=tuple(lines[1:]))
    if ragged:
        cells = len(next(row for row in rows if len(row) != len(header)))
        raise table._broken(ragged, f"{cells} cells under a header of {len(header)}")
    return table


def read_text(path: Path) -> str:
    """Read a UTF-8 file. Raises `TaskError`, naming the line that is something else."""
    try:
        content = path.read_bytes()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise TaskError(f"{path}, line {line}: it is not UTF-8 text; save the file as UTF-8.") from None
    except (OSError, ValueError) as error:  # a name that no file can have is a ValueError
        raise TaskError(f"{path}: {getattr(error, 'strerror', None) or error}.") from None
