"""Sequences with a class each: long tables and the UEA/UCR archive's `.ts` files."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search.data.csv_tables import Columns, Delimiter, read_table, read_text
from search.data.examples import Examples, TaskData
from search.data.splits import Classes, Part, Test, apply_splits, share
from search.data.texts import label_targets
from search.errors import TaskError


@dataclass(frozen=True, slots=True)
class Series:
    """N sequences (T, C), and of each its label, or a number to predict where `numbers` is true."""

    values: list[NDArray[np.float32]]
    labels: list[str]
    numbers: bool = False


def series_data(
    name: str,
    *,
    where: str,
    series: str = "series",
    label: str = "label",
    channels: Columns | None = None,
    time: str | None = None,
    test: Test = None,
    part: Part | None = None,
    classes: Classes | None = None,
    standardize: bool = True,
    delimiter: Delimiter | None = None,
) -> TaskData:
    """A table with one row a step: column `series` says whose, `label` has the class, the channels the values.

    Channels are all other columns of numbers, but for `time`, unless they are named; steps stand in their order.
    Inputs are (N, T, C), or of unequal lengths "values" (N, T, C) with zeros at the end and "lengths" (N,).
    `test` may name a file of the same columns. Raises `TaskError`.
    """

    def read(path: str) -> Series:
        table = read_table(Path(path), where=where, delimiter=delimiter)
        ids, labels = table.column(series), table.column(label)
        used = table.numeric(beside={series, label, time or ""}) if channels is None else channels
        if not used:
            raise TaskError(f"{where}: {path} has no column of numbers beside {series!r} and {label!r}.")
        values = table.numbers(used).astype(np.float32)
        members: dict[str, list[int]] = {}
        for row, one in enumerate(ids):
            members.setdefault(one, []).append(row)
            if labels[row] != labels[members[one][0]]:
                line = table.lines[row]
                raise TaskError(f"{where}: {path}, line {line}: series {one!r} has two labels; allowed: one each.")
        return Series([values[rows] for rows in members.values()], [labels[rows[0]] for rows in members.values()])

    held = read(test) if isinstance(test, str) else None
    hold_out = 0.0 if held else share(test, own=False, where=where)
    return _as_data(read(name), held, hold_out, where=where, part=part, classes=classes, standardize=standardize)


def ts_data(
    name: str,
    *,
    where: str,
    test: Test = None,
    part: Part | None = None,
    classes: Classes | None = None,
    standardize: bool = True,
) -> TaskData:
    """A `.ts` file: one series a line, its channels separated by ":", its label or target number last.

    Of a file `..._TRAIN.ts` the file `..._TEST.ts` beside it is the test set. Inputs as in `series_data`.
    Raises `TaskError`.
    """
    path, sibling = Path(name), Path(name.replace("_TRAIN.ts", "_TEST.ts"))
    held = _read_ts(Path(test), where=where) if isinstance(test, str) else None
    hold_out = 0.0
    if held is None:
        own = sibling != path and sibling.is_file()
        hold_out = share(test, own=own, where=where)
        held = _read_ts(sibling, where=where) if own else None
    read = _read_ts(path, where=where)
    return _as_data(read, held, hold_out, where=where, part=part, classes=classes, standardize=standardize)


def _read_ts(path: Path, *, where: str) -> Series:
    header: dict[str, str] = {}
    values: list[NDArray[np.float32]] = []
    labels: list[str] = []
    in_data = False
    for number, line in enumerate(read_text(path, where=where).splitlines(), start=1):
        place = f"{where}: {path}, line {number}"
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("@"):
            key, _, value = line[1:].partition(" ")
            header[key.lower()] = value.strip()
            in_data = key.lower() == "data"
            continue
        if not in_data:
            raise TaskError(f"{place}: a series stands before the line @data.")
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
        raise TaskError(f"{where}: {path} has no series.")
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


def _as_data(
    read: Series,
    held: Series | None,
    hold_out: float,
    *,
    where: str,
    part: Part | None,
    classes: Classes | None,
    standardize: bool,
) -> TaskData:
    every = read.values + (held.values if held else [])
    if len({one.shape[1] for one in every}) > 1:
        raise TaskError(f"{where}: the test series have other channels than the others.")
    inputs = padded(every)
    whole = Examples(inputs, torch.zeros(len(every), dtype=torch.int64))
    pool, own = whole.subset(torch.arange(len(read.values))), whole.subset(torch.arange(len(read.values), len(every)))
    targets, names = _targets(read, classes=None, where=where)
    own_targets, _ = _targets(held, classes=names, where=where) if held else (targets[:0], ())
    data = TaskData(pool=replace(pool, targets=targets), test=replace(own, targets=own_targets), classes=names)
    data = apply_splits(data, where=where, part=part, classes=classes, hold_out=hold_out)
    return standardized(data, where=where) if standardize else data


def _targets(read: Series, *, classes: tuple[str, ...] | None, where: str) -> tuple[Tensor, tuple[str, ...]]:
    if not read.numbers:
        return label_targets(read.labels, classes=classes, where=where)
    try:
        return torch.tensor([float(label) for label in read.labels]), ()
    except ValueError as error:
        raise TaskError(f"{where}: a target is no number: {error}.") from None


def padded(values: list[NDArray[np.float32]]) -> Tensor | dict[str, Tensor]:
    """Sequences (T, C) of one length as a tensor (N, T, C); else "values", zeros at the end, and "lengths" (N,)."""
    lengths = torch.tensor([len(one) for one in values])
    out = torch.zeros(len(values), int(lengths.max()), values[0].shape[1])
    for row, one in zip(out, values, strict=True):
        row[: len(one)] = torch.from_numpy(one)
    return out if (lengths == lengths[0]).all() else {"values": out, "lengths": lengths}


def standardized(data: TaskData, *, where: str) -> TaskData:
    """The data with each channel (the last axis) shifted and scaled to mean 0 and spread 1 over the pool.

    Zeros after the end of a sequence stay zeros and don't count. Raises `TaskError` for inputs that are no series.
    """
    values, real = _values(data.pool, where=where)
    seen = values[real]
    mean, std = seen.mean(0), seen.std(0, correction=0)
    std = torch.where(std > 0, std, 1)

    def scaled(examples: Examples) -> Examples:
        values, real = _values(examples, where=where)
        new = torch.where(real[..., None], (values - mean) / std, 0)
        inputs = {**examples.inputs, "values": new} if isinstance(examples.inputs, dict) else new
        return replace(examples, inputs=inputs)

    return replace(data, pool=scaled(data.pool), test=scaled(data.test))


def _values(examples: Examples, *, where: str) -> tuple[Tensor, Tensor]:
    """Values (N, ..., C), and which of them (N, ...) are real and not padding."""
    inputs = examples.inputs
    if isinstance(inputs, dict) and {"values", "lengths"} <= inputs.keys():
        values = inputs["values"]
        return values, torch.arange(values.shape[1]) < inputs["lengths"][:, None]
    if isinstance(inputs, Tensor):
        return inputs, torch.ones(inputs.shape[:-1], dtype=torch.bool)
    raise TaskError(f"{where}: option standardize = true is for numbers; these data are {type(inputs).__name__}.")
