"""The portfolio, made from the tables: greedy, each task weighted alike, in relative terms."""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from search.study.portfolio import FILE, Relative
from strategies import FreezingStrategy
from tests.replay.table import Table

COUNT = 8
LAST_ALONE = 0.99
"""Share that stands for all groups but the last, however many there are."""
HEAD = """\
# Strategies that did well on other tasks, the most useful first; each size tries them after the baselines. Shares are
# of the layer groups and of the epochs. Chosen greedily from the replay tables by `python -m tests.replay portfolio`:
"""


def chosen(tables: Sequence[Table], *, count: int = COUNT) -> list[Relative]:
    """Return the strategies that together lack least of each table's best, one by one.

    A size's regret is that of the best of them, by the mean test accuracy over all draws. Each task weighs alike.
    """
    found = [
        relative(one, num_groups=table.num_groups, epochs=table.grid.epochs)
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


def relative(strategy: FreezingStrategy, *, num_groups: int, epochs: int) -> Relative:
    """Return a strategy of a network of so many groups in relative terms."""
    depth = strategy.freeze_depth
    return Relative(
        frozen=LAST_ALONE if depth == num_groups - 1 else round(depth / num_groups, 3),
        head_alone=round(strategy.unfreeze_epoch / epochs, 3),
        gradual=round(min(strategy.epochs_per_group * num_groups / epochs, 1.0), 3),
        backbone_lr_ratio=strategy.backbone_lr_ratio,
        head_lr=strategy.head_lr,
        pretrained=strategy.pretrained,
    )


def _regrets(table: Table, candidates: Sequence[Relative]) -> np.ndarray:
    places = {one: place for place, one in enumerate(table.strategies)}
    grid = table.grid
    strategies = [one.strategy(num_groups=table.num_groups, epochs=grid.epochs) for one in candidates]
    score = 100 * table.score.mean(axis=2, dtype=float)
    regret = score[: -len(grid.extras) or None].max(axis=0) - score
    return np.asarray(regret[[places[grid.nearest(one)] for one in strategies]] / len(table.sizes))


def write(tables: Sequence[Table]) -> str:
    """Write the product's portfolio from all tables; return a line on it."""
    found = chosen(tables)
    lines = [HEAD + "".join(f"# - {_source(table)}\n" for table in tables)]
    for one in found:
        given = {
            field.name: getattr(one, field.name) for field in fields(one) if getattr(one, field.name) != field.default
        }
        lines.append("[[strategy]]\n" + "".join(f"{name} = {str(value).lower()}\n" for name, value in given.items()))
    FILE.write_text("\n".join(lines), encoding="utf-8")
    return f"{FILE.name}: {len(found)} strategies from {len(tables)} tables"


def _source(table: Table) -> str:
    way = "all labels train" if table.trains_all else "four fifths of the labels train"
    return f"{table.task}: sizes {', '.join(map(str, table.sizes))}, {table.repeats} draws, {way}"
