"""Sequences with a class each: long tables and the UEA/UCR archive's `.ts` files."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search.data.csv_format import Format
from search.data.csv_tables import Columns, Table, read_table
from search.data.examples import Examples, RawData, index_inputs
from search.data.grouping import Grouping
from search.data.labels import Spellings, class_indices, one_spelling
from search.data.text_files import Encoding, read_text
from search.errors import TaskError


@dataclass(frozen=True, slots=True)
class Series:
    """N sequences (T, C), and of each its label.

    numbers: the labels are numbers to predict.
    groups: int64 (N,), if they are asked for.
    """

    values: list[NDArray[np.float32]]
    labels: list[str]
    numbers: bool = False
    notes: tuple[str, ...] = ()
    groups: Tensor | None = None


def table_series(
    name: str,
    grouping: Grouping | None = None,
    *,
    series: str = "series",
    label: str = "label",
    channels: Columns | None = None,
    time: str | None = None,
    test: str | None = None,
    **written: Unpack[Format],
) -> RawData:
    """Read a table with one row a step, in the order of the steps.

    grouping: by a column that is the same in all rows of a series, or by a function of its first row's cells.
    series: the column that names the row's series; `label` has its class.
    channels: the columns of values, by default all others of numbers, but for `time` and the groups' column.
    test: a file of the same columns.
    written: the form of both files.

    Inputs are (N, T, C). Of unequal lengths they are "values" (N, T, C), zeros at the end, and "lengths" (N,).
    Raises `TaskError`.
    """
    used = list(dict.fromkeys([series, label, *([time] if time else []), *(channels or [])]))

    def read(path: str, known: list[str], channels: list[str] | None) -> tuple[Series, list[str]]:
        table = read_table(Path(path), columns=used, **written)
        beside = {*used, *([grouping.by] if grouping else [])}
        chosen, notes = (channels, table.notes) if channels else _channels_of(table, beside=beside)
        ids, labels = table.column(series), table.labels(label, known=known)
        values = table.numbers(chosen).astype(np.float32)
        members: dict[str, list[int]] = {}
        for row, one in enumerate(ids):
            members.setdefault(one, []).append(row)

        def one_each(cells: list[str], what: str) -> list[str]:
            for one, rows in members.items():
                for row in rows:
                    if cells[row] != cells[rows[0]]:
                        place = f"{path}, line {table.lines[row]}"
                        raise TaskError(f"{place}: series {one!r} has two {what}; allowed: one each.")
            return [cells[rows[0]] for rows in members.values()]

        groups = None
        if grouping is not None:
            records = table.records()
            firsts = (records[rows[0]] for rows in members.values())
            groups = grouping.of(firsts, lambda by: one_each(table.column(by), "groups"))
        parts = [values[rows] for rows in members.values()]
        return Series(parts, one_each(labels, "labels"), notes=notes, groups=groups), chosen

    pool, chosen = read(name, [], channels)
    return _raw(pool, None if test is None else read(test, sorted({*pool.labels}), chosen)[0], grouping)


def _channels_of(table: Table, *, beside: set[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return the columns of numbers, and the table's notes with one that names the others."""
    chosen, left = table.numeric(beside=beside)
    if not chosen:
        raise TaskError(f"{table.path} has no column of numbers beside {', '.join(map(repr, sorted(beside)))}.")
    if not left:
        return chosen, table.notes
    names = ", ".join(map(repr, left))[:300]
    note = f"{table.path}: channels are the columns of numbers, {', '.join(chosen)[:300]}; left out: {names}."
    return chosen, (*table.notes, note)


def ts_series(
    name: str,
    grouping: Grouping | None = None,
    *,
    test: str | None = None,
    encoding: Encoding | None = None,
    spellings: Spellings | None = None,
) -> RawData:
    """Read a `.ts` file: a series a line, its channels and label separated by ":".

    grouping: by a function of a series (T, C).
    test: a file like it; by default, of a file `..._TRAIN.ts` the file `..._TEST.ts` beside it.
    encoding, spellings: as in `Format`. Inputs as in `table_series`. Raises `TaskError`.
    """
    sibling = name.replace("_TRAIN.ts", "_TEST.ts")
    if test is None and sibling != name and Path(sibling).is_file():
        test = sibling
    pool = _read_ts(Path(name), [], encoding, spellings)
    held = None if test is None else _read_ts(Path(test), sorted({*pool.labels}), encoding, spellings)
    if grouping is not None:
        pool = replace(pool, groups=grouping.of(pool.values))
        held = None if held is None else replace(held, groups=grouping.of(held.values))
    return _raw(pool, held, grouping)


def _read_ts(path: Path, known: list[str], encoding: str | None, spellings: Spellings | None) -> Series:
    header: dict[str, str] = {}
    lines: list[int] = []
    values: list[NDArray[np.float32]] = []
    labels: list[str] = []
    in_data = False
    text, note = read_text(path, encoding=encoding)
    for number, line in enumerate(text.splitlines(), start=1):
        place = f"{path}, line {number}"
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("@"):
            key, _, value = line[1:].partition(" ")
            header[key.lower()] = value.strip()
            in_data = key.lower() == "data"
            continue
        if not in_data:
            raise TaskError(f"{place}: a series before the line @data.")
        if header.get("timestamps", "false").lower() == "true":
            raise TaskError(f"{place}: series with time stamps can't be read; allowed: plain values.")
        *channels, label = line.split(":")
        values.append(_channels(channels, place))
        labels.append(label.strip())
        lines.append(number)
        if not label.strip() or not channels:
            raise TaskError(f"{place}: the label after the last ':' is missing.")
        if values[-1].shape[1] != values[0].shape[1]:
            raise TaskError(f"{place}: {values[-1].shape[1]} channels, the first series has {values[0].shape[1]}.")
    if not values:
        raise TaskError(f"{path} has no series.")
    numbers = header.get("targetlabel", "false").lower().startswith("true")
    if not numbers:
        labels = one_spelling(labels, known=known, spellings=spellings, what=f"{path}", lines=lines)
    return Series(values, labels, numbers=numbers, notes=(f"{path} is {note}.",) if note else ())


def _channels(channels: list[str], place: str) -> NDArray[np.float32]:
    columns: list[NDArray[np.float32]] = []
    for channel in channels:
        try:
            # A question mark is how these files write a missing value.
            column = np.array(channel.replace("?", "nan").split(","), dtype=np.float32)
        except ValueError as error:
            raise TaskError(f"{place}: channel {len(columns) + 1}: {error}.") from None
        if not np.isfinite(column).all():
            step = int(np.flatnonzero(~np.isfinite(column))[0]) + 1
            raise TaskError(f"{place}: channel {len(columns) + 1}, step {step}: a value is missing, NaN or infinite.")
        columns.append(column)
    if len({len(column) for column in columns}) > 1:
        raise TaskError(f"{place}: its channels differ in length.")
    return np.stack(columns, axis=1) if columns else np.empty((0, 0), dtype=np.float32)


def _raw(read: Series, held: Series | None, grouping: Grouping | None) -> RawData:
    every = read.values + (held.values if held else [])
    if len({one.shape[1] for one in every}) > 1:
        raise TaskError("the test series have other channels than the others.")
    inputs = padded(every)  # together, so that both sets have one length
    pool, own = (index_inputs(inputs, rows) for rows in torch.arange(len(every)).tensor_split([len(read.values)]))
    targets, names = _targets(read)
    test = None if held is None else Examples(own, _targets(held, names=names)[0], held.groups)
    notes = (*read.notes, *(held.notes if held else ()))
    pooled = Examples(pool, targets, read.groups)
    return RawData(pool=pooled, test=test, classes=names, notes=notes, grouping=grouping)


def _targets(read: Series, *, names: tuple[str, ...] = ()) -> tuple[Tensor, tuple[str, ...]]:
    if not read.numbers:
        return class_indices(read.labels, names=names, at_least=2)
    try:
        return torch.tensor([float(label) for label in read.labels]), ()
    except ValueError as error:
        raise TaskError(f"a target is no number: {error}.") from None


def padded(values: list[NDArray[np.float32]]) -> Tensor | dict[str, Tensor]:
    """Stack sequences (T, C), as a tensor or as "values" and "lengths"."""
    lengths = torch.tensor([len(one) for one in values])
    out = torch.zeros(len(values), int(lengths.max()), values[0].shape[1])
    for row, one in zip(out, values, strict=True):
        row[: len(one)] = torch.from_numpy(one)
    return out if (lengths == lengths[0]).all() else {"values": out, "lengths": lengths}
