"""Texts, or pairs of texts, as a task's inputs: a CSV or TSV file with one a row."""

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from search.data.csv_tables import Columns, Delimiter, Table, read_table
from search.data.examples import Examples, TaskData
from search.data.splits import Classes, Part, Test, apply_splits, class_indices, share
from search.errors import TaskError


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """N raw texts, or pairs of texts, to be cut into tokens for a network: each row has one or two."""

    rows: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def subset(self, indices: Tensor) -> "Texts":
        return Texts(tuple(self.rows[index] for index in indices.tolist()))

    def identities(self) -> list[Hashable]:
        return list(self.rows)


def texts_data(
    name: str,
    *,
    where: str,
    text: str | Columns,
    label: str | None = None,
    target: str | Columns | None = None,
    test: Test = None,
    part: Part | None = None,
    classes: Classes | None = None,
    delimiter: Delimiter | None = None,
) -> TaskData:
    """The texts in column `text`, or pairs of them in two columns, each with its class or its number.

    Classes stand in column `label` ("label" where nothing is said), or numbers to predict in column(s) `target`.
    `test` may name a file of the same columns. Raises `TaskError`.
    """
    columns = [text] if isinstance(text, str) else text
    if len(columns) > 2:
        raise TaskError(f"{where}: option text = {text!r} must be a column, or a list of two.")
    if label is not None and target is not None:
        raise TaskError(f"{where}: give the option label, for classes, or target, for numbers, not both.")
    goals = [target] if isinstance(target, str) else target
    table = read_table(Path(name), where=where, delimiter=delimiter)
    pool, found = _examples(table, columns, label or "label", goals)
    own = pool.subset(torch.arange(0))
    if isinstance(test, str):
        held = read_table(Path(test), where=where, delimiter=delimiter)
        own, _ = _examples(held, columns, label or "label", goals, classes=found)
    data = TaskData(pool=pool, test=own, classes=found)
    hold_out = 0.0 if isinstance(test, str) else share(test, own=False, where=where)
    return apply_splits(data, where=where, part=part, classes=classes, hold_out=hold_out)


def _examples(
    table: Table, texts: list[str], label: str, goals: list[str] | None, *, classes: tuple[str, ...] | None = None
) -> tuple[Examples, tuple[str, ...]]:
    inputs = Texts(tuple(zip(*(table.column(name) for name in texts), strict=True)))
    if goals is not None:
        return Examples(inputs, numbers_target(table, goals)), ()
    targets, found = label_targets(table.column(label), classes=classes, where=table.where)
    return Examples(inputs, targets), found


def numbers_target(table: Table, goals: list[str]) -> Tensor:
    """float32 (N,) of one column, (N, K) of several."""
    numbers = torch.from_numpy(table.numbers(goals)).float()
    return numbers[:, 0] if len(goals) == 1 else numbers


def label_targets(labels: list[str], *, classes: tuple[str, ...] | None, where: str) -> tuple[Tensor, tuple[str, ...]]:
    """Class indices (N,) and the classes' names. Raises `TaskError` for one class only, or one not known."""
    try:
        targets, found = class_indices(labels, names=classes)
    except KeyError as error:
        raise TaskError(f"{where}: the test data have the label {error}, which the others don't have.") from None
    if len(found) < 2:
        raise TaskError(f"{where}: all labels are {found[0]!r}; at least 2 classes are needed.")
    return targets, found
