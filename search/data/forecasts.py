"""Forecasting: windows of one series, and the values that follow each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from search.data.csv_format import Format
from search.data.csv_tables import Columns, read_table
from search.data.examples import Examples, TaskData
from search.data.selection import HELD_OUT_SHARE, Part, Share, check_no_test_set, part_bounds
from search.errors import TaskError

Count = Annotated[int, Field(ge=1)]
WINDOWS: dict[str, Any] = {"window": (Count, ...), "horizon": (Count, 1), "stride": (Count | None, None)}
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """A series in order: channels (T, C) and targets (T, K) with their `names`."""

    pool: tuple[Values, Values]
    test: tuple[Values, Values] | None
    names: list[str]
    notes: tuple[str, ...] = ()


def forecast_steps(
    name: str,
    *,
    target: str | Columns,
    channels: Columns | None = None,
    test: str | None = None,
    **written: Unpack[Format],
) -> Steps:
    """Read a table with one row a time step.

    target: the K columns to predict, from the C `channels`, by default from themselves.
    test: a file of the same columns.
    written: the form of both files. Raises `TaskError`.
    """
    targets = [target] if isinstance(target, str) else target
    used = list(dict.fromkeys([*(channels or []), *targets]))
    notes: list[str] = []

    def read(path: str) -> tuple[Values, Values]:
        table = read_table(Path(path), columns=used, **written)
        notes.extend(table.notes)
        return table.numbers(channels or targets), table.numbers(targets)

    pool, own = read(name), None if test is None else read(test)
    return Steps(pool=pool, test=own, names=targets, notes=tuple(notes))


def split_steps(
    steps: Steps,
    *,
    window: int,
    horizon: int,
    stride: int | None,
    part: Part | None,
    standardize: bool,
    test: Share | Literal["cv"] | None = None,
) -> TaskData:
    """Split a series; cut inputs (N, window, C) and targets (N, horizon * K).

    `part` slices the steps in their order, and the last are held out as the test set; no window reaches across.
    Channels and targets are scaled to mean 0 and spread 1 over the pool's steps.

    window, horizon: steps to predict from, and to predict.
    stride: steps between windows, by default the horizon, so that no two share a target. Raises `TaskError`.
    """
    if test == "cv":
        raise TaskError(f"test = {test!r}: the windows of one series overlap; allowed: a share, or a place.")
    stride = stride or horizon
    inputs, goals = steps.pool
    if part is not None:
        chosen = slice(*part_bounds(part, len(inputs)))
        inputs, goals = inputs[chosen], goals[chosen]
    check_no_test_set(test, own=steps.test is not None)
    share = 0.0 if steps.test is not None else HELD_OUT_SHARE if test is None else test
    held = round(share * len(inputs))
    border = len(inputs) - held
    # The test windows start on the pool's grid: in a series with a season (12 months, a stride of 6) all windows
    # of the pool begin in the same few months, and a model knows no others.
    border -= border % stride if held else 0
    held_inputs, held_goals = steps.test or (inputs[border:], goals[border:])
    inputs, goals = inputs[:border], goals[:border]
    shortest, needed = min(len(inputs), len(held_inputs) or len(inputs)), window + horizon
    if shortest < needed:
        raise TaskError(
            f"{shortest} steps are too few for window = {window} and horizon = {horizon}; "
            f"at least {needed} are needed, in the pool and in the test set."
        )
    notes = steps.notes
    if standardize:
        inputs, held_inputs, _ = _scaled(inputs, held_inputs)
        goals, held_goals, spread = _scaled(goals, held_goals)
        sizes = ", ".join(f"{name} {value:.4g}" for name, value in zip(steps.names, spread, strict=True))
        notes += (f"errors are in units of the targets' standard deviation in the pool: {sizes}.",)
    pool, own = (
        _windows(*both, window=window, horizon=horizon, stride=stride)
        for both in ((inputs, goals), (held_inputs, held_goals))
    )
    return TaskData(pool=pool, test=own, classes=(), notes=notes)


def _scaled(pool: Values, held: Values) -> tuple[Values, Values, Values]:
    mean, spread = pool.mean(0), pool.std(0)
    scale = np.where(spread > 0, spread, 1)
    return (pool - mean) / scale, (held - mean) / scale, scale


def _windows(inputs: Values, goals: Values, *, window: int, horizon: int, stride: int) -> Examples:
    ends = range(window, len(inputs) - horizon + 1, stride)
    seen = [torch.from_numpy(inputs[end - window : end]) for end in ends]
    coming = [torch.from_numpy(goals[end : end + horizon]).flatten() for end in ends]
    return Examples(
        _stacked(seen, (window, inputs.shape[1])),
        _stacked(coming, (horizon * goals.shape[1],)),
    )


def _stacked(parts: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    return torch.stack(parts).float() if parts else torch.empty(0, *shape)
