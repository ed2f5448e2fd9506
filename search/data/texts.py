"""Texts, or pairs of texts, as a task's inputs: a table with one a row."""

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from torch import Tensor

from search.data.csv_format import Format
from search.data.csv_tables import Columns, read_table
from search.data.examples import Examples, RawData
from search.data.grouping import Grouping
from search.data.labels import class_indices
from search.errors import TaskError


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """N raw texts, or pairs of texts: each row has one or two."""

    rows: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def subset(self, indices: Tensor) -> "Texts":
        return Texts(tuple(self.rows[index] for index in indices.tolist()))

    def identities(self) -> list[Hashable]:
        return list(self.rows)


def texts(
    name: str,
    grouping: Grouping | None = None,
    *,
    text: str | Columns,
    label: str | None = None,
    target: str | Columns | None = None,
    test: str | None = None,
    **written: Unpack[Format],
) -> RawData:
    """Read a table of texts (column `text`), or of pairs of them (two columns).

    grouping: by a column, or by a function of a row's cells.
    label: the column of classes, by default "label".
    target: the column or columns of numbers to predict, in place of classes.
    test: a file of the same columns.
    written: the form of both files. Raises `TaskError`.
    """
    columns = [text] if isinstance(text, str) else text
    if len(columns) > 2:
        raise TaskError(f"option text = {text!r} must be a column, or a list of two.")
    if label is not None and target is not None:
        raise TaskError("give the option label, for classes, or target, for numbers, not both.")
    goals = [target] if isinstance(target, str) else target

    used = [*columns, *(goals if goals is not None else [label or "label"])]
    notes: list[str] = []

    def read(path: str, names: tuple[str, ...] = ()) -> tuple[Examples, tuple[str, ...]]:
        table = read_table(Path(path), columns=used, **written)
        notes.extend(table.notes)
        inputs = Texts(tuple(zip(*(table.column(column) for column in columns), strict=True)))
        groups = None if grouping is None else grouping.of(table.records(), table.column)
        if goals is not None:
            return Examples(inputs, table.targets(goals), groups), ()
        targets, found = class_indices(table.labels(used[-1], known=names), names=names, at_least=2)
        return Examples(inputs, targets, groups), found

    pool, classes = read(name)
    own = None if test is None else read(test, classes)[0]
    return RawData(pool=pool, test=own, classes=classes, notes=tuple(notes), grouping=grouping)
