"""Forecasting: windows of one series, and the values that follow each."""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from search.data.csv_tables import Columns, Delimiter, Table, read_table
from search.data.examples import Examples, TaskData
from search.data.splits import Part, Test, share
from search.errors import TaskError

Steps = Annotated[int, Field(ge=1)]
Values = NDArray[np.float64]


def forecast_data(
    name: str,
    *,
    where: str,
    target: str | Columns,
    window: Steps,
    horizon: Steps = 1,
    stride: Steps | None = None,
    channels: Columns | None = None,
    test: Test = None,
    part: Part | None = None,
    standardize: bool = True,
    delimiter: Delimiter | None = None,
) -> TaskData:
    """A table with one row a time step: inputs (N, window, C), targets (N, horizon * K), step by step.

    The K target columns are foretold from the C channels, by default from themselves. Windows start every `stride`
    steps, by default every `horizon`, so that no two share a target. The last steps are the test set (or a file `test`
    of the same columns), and no window reaches across; `part` slices the steps in their order. Channels and targets
    are scaled to mean 0 and spread 1 over the pool's steps. Raises `TaskError`.
    """
    stride = stride or horizon
    table = read_table(Path(name), where=where, delimiter=delimiter)
    targets = [target] if isinstance(target, str) else target
    columns = [channels or targets, targets]
    inputs, goals = _sliced(table, columns, part, where=where)
    if isinstance(test, str):
        held = [read_table(Path(test), where=where, delimiter=delimiter).numbers(names) for names in columns]
    else:
        steps = round(share(test, own=False, where=where) * len(inputs))
        border = len(inputs) - steps
        # The test windows stand on the pool's grid: in a series with a season (12 months, a stride of 6) all windows
        # of the pool begin in the same few months, and a model knows no others.
        border -= border % stride if steps else 0
        held = [inputs[border:], goals[border:]]
        inputs, goals = inputs[:border], goals[:border]
    shortest = min(len(inputs), len(held[0]) or len(inputs))
    if shortest < window + horizon:
        raise TaskError(
            f"{where}: {shortest} steps are too few for window = {window} and horizon = {horizon}; "
            f"at least {window + horizon} are needed, in the pool and in the test set."
        )
    notes = []
    if standardize:
        (inputs, held[0]), _ = _scaled(inputs, held[0])
        (goals, held[1]), spread = _scaled(goals, held[1])
        sizes = ", ".join(f"{one} {value:.4g}" for one, value in zip(targets, spread, strict=True))
        notes.append(f"{where}: errors are in units of the targets' standard deviation in the pool: {sizes}.")
    pool = _windows(inputs, goals, window, horizon, stride)
    own = _windows(held[0], held[1], window, horizon, stride)
    return TaskData(pool=pool, test=own, classes=(), notes=tuple(notes))


def _sliced(table: Table, columns: list[list[str]], part: Part | None, *, where: str) -> tuple[Values, Values]:
    inputs, goals = (table.numbers(names) for names in columns)
    start, end = (int(at * len(table) + 0.5) for at in part or (0, 1))
    if start >= end:
        raise TaskError(f"{where}: option part = {part} has no steps; allowed: [from, to] with from < to.")
    return inputs[start:end], goals[start:end]


def _scaled(pool: Values, held: Values) -> tuple[tuple[Values, Values], Values]:
    mean, spread = pool.mean(0), pool.std(0)
    scale = np.where(spread > 0, spread, 1)
    return ((pool - mean) / scale, (held - mean) / scale), scale


def _windows(inputs: Values, goals: Values, window: int, horizon: int, stride: int) -> Examples:
    starts = range(0, len(inputs) - window - horizon + 1, stride)
    seen = [torch.from_numpy(inputs[start : start + window]) for start in starts]
    coming = [torch.from_numpy(goals[start + window : start + window + horizon]).flatten() for start in starts]
    return Examples(_stacked(seen, (window, inputs.shape[1])), _stacked(coming, (horizon * goals.shape[1],)))


def _stacked(parts: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    return torch.stack(parts).float() if parts else torch.empty(0, *shape)
