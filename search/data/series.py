"""Sequences with a class each: long tables and the UEA/UCR archive's `.ts` files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search.data.csv_tables import Columns, Delimiter, class_indices, read_table, read_text
from search.data.examples import Examples, RawData, index_inputs
from search.errors import TaskError


@dataclass(frozen=True, slots=True)
class Series:
    """N sequences (T, C), and of each its label, or with `numbers` its target."""

    values: list[NDArray[np.float32]]
    labels: list[str]
    numbers: bool = False


def table_series(
    name: str,
    *,
    series: str = "series",
    label: str = "label",
    channels: Columns | None = None,
    time: str | None = None,
    delimiter: Delimiter | None = None,
    test: str | None = None,
) -> RawData:
    """Read a table with one row a step, in the order of the steps.

    series: the column that names the row's series; `label` has its class.
    channels: the columns of values, by default all others of numbers, but for `time`.
    test: a file of the same columns.

    Inputs are (N, T, C). Of unequal lengths they are "values" (N, T, C), zeros at the end, and "lengths" (N,).
    Raises `TaskError`.
    """

    def read(path: str) -> Series:
        table = read_table(Path(path), delimiter=delimiter)
        ids, labels = table.column(series), table.column(label)
        used = table.numeric(beside={series, label, time or ""}) if channels is None else channels
        if not used:
            raise TaskError(f"{path} has no column of numbers beside {series!r} and {label!r}.")
        values = table.numbers(used).astype(np.float32)
        members: dict[str, list[int]] = {}
        for row, one in enumerate(ids):
            members.setdefault(one, []).append(row)
            if labels[row] != labels[members[one][0]]:
                line = table.lines[row]
                raise TaskError(f"{path}, line {line}: series {one!r} has two labels; allowed: one each.")
        return Series([values[rows] for rows in members.values()], [labels[rows[0]] for rows in members.values()])

    return _raw(read(name), None if test is None else read(test))


def ts_series(name: str, *, test: str | None = None) -> RawData:
    """Read a `.ts` file: a series a line, its channels and label separated by ":".

    test: a file like it; by default, of a file `..._TRAIN.ts` the file `..._TEST.ts` beside it.
    Inputs as in `table_series`. Raises `TaskError`.
    """
    sibling = name.replace("_TRAIN.ts", "_TEST.ts")
    if test is None and sibling != name and Path(sibling).is_file():
        test = sibling
    return _raw(_read_ts(Path(name)), None if test is None else _read_ts(Path(test)))


def _read_ts(path: Path) -> Series:
    header: dict[str, str] = {}
    values: list[NDArray[np.float32]] = []
    labels: list[str] = []
    in_data = False
    for number, line in enumerate(read_text(path).splitlines(), start=1):
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
        if not label.strip() or not channels:
            raise TaskError(f"{place}: the label after the last ':' is missing.")
        if values[-1].shape[1] != values[0].shape[1]:
            raise TaskError(f"{place}: {values[-1].shape[1]} channels, the first series has {values[0].shape[1]}.")
    if not values:
        raise TaskError(f"{path} has no series.")
    return Series(values, labels, numbers=header.get("targetlabel", "false").lower().startswith("true"))


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


def _raw(read: Series, held: Series | None) -> RawData:
    every = read.values + (held.values if held else [])
    if len({one.shape[1] for one in every}) > 1:
        raise TaskError("the test series have other channels than the others.")
    inputs = padded(every)  # together, so that both sets have one length
    pool, own = (index_inputs(inputs, rows) for rows in torch.arange(len(every)).tensor_split([len(read.values)]))
    targets, names = _targets(read)
    test = None if held is None else Examples(own, _targets(held, names=names)[0])
    return RawData(pool=Examples(pool, targets), test=test, classes=names)


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
