"""The portfolio, made from the tables: greedy, each task weighted alike, in relative terms."""

from collections.abc import Iterator, Sequence
from dataclasses import fields

import numpy as np
from rich.table import Table as Text

from search.study.portfolio import FILE, Relative
from tests.replay.table import Table

COUNT = 8
HEAD = """\
# Strategies that did well on other tasks, the most useful first; each size tries them after the baselines. Shares are
# of the layer groups and of the epochs. Chosen greedily from the replay tables by `python -m tests.replay portfolio`:
"""


def chosen(tables: Sequence[Table], *, count: int = COUNT) -> list[Relative]:
    """Return the strategies that together lack least of each table's best, one by one.

    A size's regret is that of the best of them, by the mean test accuracy over all draws. Each task weighs alike.
    """
    found = [
        Relative.of(one, num_groups=table.num_groups, epochs=table.grid.epochs)
        for table in tables
        for one in table.strategies[: -len(table.grid.extras) or None]
    ]
    candidates = list(dict.fromkeys(found))
    regrets = np.concatenate([_regrets(table, candidates) for table in tables], axis=1)  # (candidates, sizes of all)
    left = np.full(regrets.shape[1], np.inf)
    picked: list[Relative] = []
    for _ in range(count):
        place = int(np.minimum(regrets, left).sum(axis=1).argmin())
        left = np.minimum(left, regrets[place])
        picked.append(candidates[place])
    return picked


def _regrets(table: Table, candidates: Sequence[Relative]) -> np.ndarray:
    places = {one: place for place, one in enumerate(table.strategies)}
    grid = table.grid
    strategies = [one.strategy(num_groups=table.num_groups, epochs=grid.epochs) for one in candidates]
    score = 100 * table.score.mean(axis=2, dtype=float)
    regret = score[: -len(grid.extras) or None].max(axis=0) - score
    return np.asarray(regret[[places[grid.nearest(one)] for one in strategies]] / len(table.sizes))


def report(tables: Sequence[Table], *, studies: int = 0) -> Iterator[Text | str]:
    """Write the product's portfolio from all tables, and yield it."""
    found = chosen(tables)
    lines = [HEAD + "".join(f"# - {_source(table)}\n" for table in tables)]
    for one in found:
        given = {
            field.name: getattr(one, field.name) for field in fields(one) if getattr(one, field.name) != field.default
        }
        lines.append("[[strategy]]\n" + "".join(f"{name} = {str(value).lower()}\n" for name, value in given.items()))
    FILE.write_text("\n".join(lines), encoding="utf-8")
    yield f"{FILE.name}: {len(found)} strategies from {len(tables)} tables"


def _source(table: Table) -> str:
    way = "all labels train" if table.trains_all else "four fifths of the labels train"
    return f"{table.task}: sizes {', '.join(map(str, table.sizes))}, {table.repeats} draws, {way}"
