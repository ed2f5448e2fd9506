"""A backbone's layer groups in figures: parameters, cost, and the effect of each freeze depth."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from search.spec.study_spec import StudySpec
from search.task.task import Task
from strategies import FreezingStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow:
    """A layer group, or the head, which is the last one.

    share: of the forward FLOPs; 0 where they are unknown.
    trained: how many parameters train at the freeze depth that equals its index.
    """

    name: str
    parameters: int
    share: float
    trained: int


def summarize(spec: StudySpec) -> list[GroupRow]:
    """Return the layer groups of a study's backbone, then the head. Raises `FrostlineError`."""
    task = Task.inspect(spec)
    groups = task.groups
    flops = task.flops or [0] * (len(groups) + 1)
    trained = [task.trainable_parameters(FreezingStrategy(freeze_depth=depth)) for depth in range(len(groups) + 1)]
    names = [*(group.name for group in groups), "head"]
    sizes = [*(sum(parameter.numel() for parameter in group.parameters) for group in groups), trained[-1]]
    total, rows = max(sum(flops), 1), zip(names, sizes, flops, trained, strict=True)
    return [GroupRow(name=name, parameters=size, share=cost / total, trained=left) for name, size, cost, left in rows]


def table(rows: Sequence[GroupRow]) -> Table:
    """Return the layer groups as a table for a terminal."""
    result = Table(box=None, padding=(0, 2, 0, 0))
    for heading, justify in (
        ("depth", "right"), ("layer group", "left"), ("parameters", "right"), ("FLOPs", "right"), ("trains", "right"),
        ("", "left")
    ):  # fmt: skip
        result.add_column(heading, justify=justify, no_wrap=heading != "")  # type: ignore[arg-type]
    whole = rows[0].trained
    for index, row in enumerate(rows):
        count = f"{row.trained:,} ({100 * row.trained / whole:.3g} %)"
        meaning = "everything" if index == 0 else "the head" if row is rows[-1] else "from here on"
        result.add_row(str(index), row.name, f"{row.parameters:,}", f"{100 * row.share:.1f} %", count, meaning)
    return result
