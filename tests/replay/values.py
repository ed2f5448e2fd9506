"""The value that a trial reports, by the pick of a short search that samples, prunes and picks by it."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.table import Table as Text

from tests.replay.samplers import ENGINES, Engine, pick
from tests.replay.search import Replay
from tests.replay.stops import gap
from tests.replay.table import Array, Table

PRODUCT = "mean of the last quarter"
TRIALS = (16, 30)
SEARCHES = {
    "product": ENGINES["baselines + TPE + PhasePruner"],
    "unpruned": ENGINES["baselines + TPE"],
    "random": ENGINES["random"],
}
MANY = 80
"""Labels that make a validation loss comparable: in the older tables it is that of a fifth of a size."""


def values(table: Table) -> dict[str, Array]:
    """Return values in each epoch, (strategies, sizes, repeats, epochs), by name; more is better."""
    return {
        "lowest loss so far": -np.minimum.accumulate(table.val_loss, axis=-1),
        "accuracy": table.undrawn,
        PRODUCT: table.values,
        "best accuracy so far": np.maximum.accumulate(table.undrawn, axis=-1),
    }


def regrets(replay: Replay, engine: Engine, *, size: int, repeat: int, seed: int) -> list[float]:
    """Return the pick's gap to the best, in points, after each number of `TRIALS` on that repeat.

    The truth is the mean over the other repeats.
    """
    truth = np.delete(replay.table.score[:, size], repeat, axis=1).mean(axis=1)
    found = replay.search(
        size=size,
        repeat=repeat,
        sampler=engine.sampler(seed),
        pruner=engine.pruner(replay),
        first=engine.first,
        trials=TRIALS[-1],
    )
    picked = [pick(found[:trials]) for trials in TRIALS]
    best = truth[: replay.searched].max()
    return [100 * float(best - (truth.mean() if place is None else truth[place])) for place in picked]


def compare(table: Table, engine: Engine, *, studies: int) -> dict[str, NDArray[np.float64]]:
    """Return regrets (trials, sizes, studies) by value; each study explores another repeat, while there are some."""
    found = {}
    for name, value in values(table).items():
        replay = Replay(table, values=value)
        found[name] = np.array(
            [
                [
                    regrets(replay, engine, size=size, repeat=study % table.repeats, seed=study)
                    for study in range(studies)
                ]
                for size in range(len(table.sizes))
            ]
        ).transpose(2, 0, 1)
    return found


def report(tables: Sequence[Table], *, studies: int) -> Iterator[Text]:
    """Yield a table for each way to search: regret by value, and the difference from the product's."""
    for way, engine in SEARCHES.items():
        found = {table.task: compare(table, engine, studies=studies) for table in tables}
        text = Text("task", "labels that train", "that validate", *values(tables[0]), title=f"{way}: regret in points")
        many = {name: [] for name in values(tables[0])}
        for table in tables:
            for at, (trained, held) in enumerate(zip(table.trained, table.held_out, strict=True)):
                of_size = {name: one[:, at] for name, one in found[table.task].items()}
                text.add_row(table.task, str(trained), str(held or "undrawn"), *_cells(of_size))
                if not 0 < held < MANY:
                    for name, one in of_size.items():
                        many[name].append(one)
            text.add_section()
        every = {name: np.concatenate([found[task][name] for task in found], axis=1) for name in many}
        text.add_row("all", "", "", *_cells(every))
        text.add_row(
            "all", "", f"at least {MANY}", *_cells({name: np.stack(one, axis=1) for name, one in many.items()})
        )
        text.caption = (
            f"after {TRIALS[0]} / {TRIALS[1]} trials; in brackets the difference from the product's value after "
            f"{TRIALS[1]}, and its standard error; {studies} studies a size"
        )
        yield text


def _cells(found: dict[str, NDArray[np.float64]]) -> Iterator[str]:
    for name, one in found.items():
        few, many = one.reshape(len(TRIALS), -1).mean(axis=1)
        mean, error = gap(one[-1], found[PRODUCT][-1])
        yield f"{few:.2f} / {many:.2f}" + ("" if name == PRODUCT else f" ({mean:+.2f}, {error:.2f})")
