"""CSV and TSV files, read strictly: an oddity is refused with the key to set."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from search.data.csv_format import (
    Format,
    Grid,
    Layout,
    excel_separator,
    header_hint,
    keys_to_set,
    parse,
    quotes_in_doubt,
)
from search.data.labels import Spellings, one_spelling
from search.data.numerals import Numerals, notation_keys, readings
from search.data.text_files import read_text
from search.errors import TaskError

Columns = Annotated[list[str], Field(min_length=1)]

MISSING = ("", "nan", "NaN")
MISSING_LABELS = (*MISSING, "NA", "<NA>", "N/A", "#N/A", "NULL", "null")
"""Missing values, as pandas, R, spreadsheets and databases write them."""
SAMPLED_ROWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The rows of a file, as texts, and the line on which each ends.

    notes: lines on how the file was read, if not as expected.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    numerals: Numerals
    spellings: Spellings | None
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[str]:
        """Return a column's cells, stripped. Raises `TaskError` for an empty cell or NaN."""
        return [cell.strip() for cell in self._present(name, MISSING)]

    def labels(self, name: str, *, known: Sequence[str] = ()) -> list[str]:
        """Return a column of labels, each class in one spelling, if possible `known`.

        Raises `TaskError`.
        """
        cells = self._present(name, MISSING_LABELS)
        what = f"{self.path}: column {name!r}"
        return one_spelling(cells, known=known, spellings=self.spellings, what=what, lines=self.lines)

    def records(self) -> list[dict[str, str]]:
        """Return each row as a dict of its cells, stripped, by column."""
        return [dict(zip(self.header, map(str.strip, row), strict=True)) for row in self.rows]

    def numbers(self, names: list[str]) -> NDArray[np.float64]:
        """Return columns as finite numbers (N, K). Raises `TaskError` for another cell."""
        columns = [self._cells(name) for name in names]
        found = [[self.numerals.number(cell) for cell in cells] for cells in columns]
        values = np.array(found, dtype=np.float64).T.reshape(len(self), len(names))
        broken = ~(np.abs(values) <= np.finfo(np.float32).max)  # networks take float32
        for row, column in np.argwhere(broken):
            cells, name = columns[column], names[column]
            lines = [self.lines[index] for index in np.flatnonzero(broken[:, column])]
            what = f"column {name!r} has {cells[row][:40]!r}, which is not a finite number"
            raise self._broken(lines, what, notation_keys(cells, cells[row]) if found[column][row] is None else "")
        for name, cells in zip(names, columns, strict=True):
            if self.numerals.doubtful(cells):
                at = next(row for row, cell in enumerate(cells) if "." in cell)
                what = f"column {name!r} has {cells[at]!r} beside whole numbers below 1000"
                raise self._broken([self.lines[at]], what, 'set option thousands = "." or decimal = ".", as is meant')
        return values

    def targets(self, names: list[str]) -> Tensor:
        """Return numbers to predict, float32: (N,) of one column, (N, K) of several. Raises `TaskError`."""
        numbers = torch.from_numpy(self.numbers(names)).float()
        return numbers[:, 0] if len(names) == 1 else numbers

    def numeric(self, *, beside: set[str]) -> tuple[list[str], list[str]]:
        """Name the other columns of numbers, and those of something else or without a name.

        A column is of numbers if most of its first cells are, in any notation.
        """
        others = [name for name in self.header if name not in beside]
        chosen = [name for name in others if name and self._mostly_numbers(name)]
        return chosen, [name for name in others if name not in chosen]

    def _mostly_numbers(self, name: str) -> bool:
        cells = [cell for cell in self._cells(name)[:SAMPLED_ROWS] if cell.strip()]
        numbers = [cell for cell in cells if self.numerals.number(cell) is not None or readings([cell])]
        return 2 * len(numbers) > len(cells)

    def _present(self, name: str, absent: tuple[str, ...]) -> list[str]:
        cells = self._cells(name)
        missing = [row for row, cell in enumerate(cells) if cell.strip() in absent]
        if missing:
            what = f"column {name!r} is {cells[missing[0]].strip() or 'empty'}"
            named = (
                "" if absent == MISSING or not cells[missing[0]].strip() else "if that is a class, name it otherwise"
            )
            raise self._broken([self.lines[row] for row in missing], what, named)
        return cells

    def _cells(self, name: str) -> list[str]:
        if name not in self.header:
            columns = ", ".join(self.header)[:300]
            raise TaskError(f"{self.path} has no column {name!r}; its columns: {columns}.")
        index = self.header.index(name)
        return [row[index] for row in self.rows]

    def _broken(self, lines: list[int], what: str, remedy: str = "") -> TaskError:
        count = f" ({len(lines)} such lines)" if len(lines) > 1 else ""
        return TaskError(f"{self.path}, line {lines[0]}: {what}{count}{'; ' if remedy else ''}{remedy}.")


def read_table(path: Path, *, columns: list[str], **written: Unpack[Format]) -> Table:
    """Read a file that has these columns.

    written: its form. By default it is UTF-8 with a header, comma-separated, or tab-separated and then without quotes.
    For quotes are plain characters in the tab-separated files that data sets come in: one of them alone would swallow
    the lines that follow.

    Raises `TaskError`, with the keys to set if the file can be read in another way.
    """
    tabs = path.suffix.lower() == ".tsv"
    quote, header = written.get("quote"), written.get("header")
    layout = Layout(
        delimiter=written.get("delimiter") or ("\t" if tabs else ","),
        quote=("" if tabs else '"') if quote is None else quote,
        header=None if header is None else tuple(header),
        decimal=written.get("decimal"),
    )
    numerals = _numerals(written)
    if layout.quote == layout.delimiter:
        raise TaskError(f"the options quote and delimiter are both {quote!r}.")
    text, note = read_text(
        path,
        encoding=written.get("encoding"),
        more_keys=lambda text: keys_to_set(text, layout, columns=columns),
    )
    notes = [f"{path} is {note}."] if note else []
    named = excel_separator(text)
    if named and written.get("delimiter") is None:
        layout = replace(layout, delimiter=named)
        notes.append(f"{path} is separated by {named!r}, as its first line says.")
    grid = _parsed(path, text, layout, columns)
    if quote is None and tabs and (line := quotes_in_doubt(grid)):
        raise TaskError(f'{path}, line {line}: a cell seems quoted; set option quote = \'"\', or "" if it is not.')
    return Table(
        path=path,
        header=grid.header,
        rows=grid.rows,
        lines=grid.lines,
        numerals=numerals,
        spellings=written.get("spellings"),
        notes=tuple(notes),
    )


def _numerals(written: Format) -> Numerals:
    decimal, thousands = written.get("decimal"), written.get("thousands")
    if decimal == thousands and decimal is not None:
        raise TaskError(f"the options decimal and thousands are both {decimal!r}.")
    return Numerals(decimal="," if thousands == "." else decimal, thousands=thousands)


def _parsed(path: Path, text: str, layout: Layout, columns: list[str]) -> Grid:
    try:
        return parse(text, layout, columns=columns)
    except TaskError as error:
        problem = str(error).removesuffix(".")
        keys = keys_to_set(text, layout, columns=columns)
        hint = f"set option {', '.join(keys)}" if keys else header_hint(text, layout, columns=columns)
        comma = "," if problem.startswith("line ") else ":"
        raise TaskError(f"{path}{comma} {problem}{'; ' if hint else ''}{hint}.") from None
