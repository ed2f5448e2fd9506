"""A task's replay table: each strategy's curves on each repeat at each size."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from strategies import FreezingStrategy
from tests.replay.grid import Grid

TABLES = Path(__file__).parent / "tables"
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cell:
    """One training run: per epoch (E,), and `outcome` (N,), whether each test example is right at its best epoch.

    seconds: of CPU time, on one thread, training and validation alone.
    """

    val_loss: Array
    val_accuracy: Array
    test_accuracy: Array
    seconds: Array
    outcome: NDArray[np.bool_]

    @property
    def best_epoch(self) -> int:
        """The epoch of the lowest finite validation loss; the first where none is finite."""
        return int(np.argmin(np.where(np.isfinite(self.val_loss), self.val_loss, np.inf)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """All cells of a task. Curves are (strategies, sizes, repeats, epochs); `outcome` is (strategies, sizes, repeats,
    N).

    Where a run diverged its loss is infinite. weights: the source task's, by name, where there is one.
    """

    task: str
    num_groups: int
    sizes: tuple[int, ...]
    repeats: int
    val_loss: Array
    val_accuracy: Array
    test_accuracy: Array
    seconds: Array
    outcome: NDArray[np.bool_]
    weights: dict[str, Array]

    @property
    def grid(self) -> Grid:
        return Grid.of(self.task, self.num_groups)

    @property
    def strategies(self) -> list[FreezingStrategy]:
        return self.grid.strategies()

    @property
    def best_epoch(self) -> NDArray[np.int64]:
        """(strategies, sizes, repeats): the epoch of the lowest validation loss."""
        return np.argmin(self.val_loss, axis=-1)

    @property
    def value(self) -> Array:
        """(strategies, sizes, repeats): a trial's value, its best epoch's validation loss."""
        return np.asarray(self.val_loss.min(axis=-1))

    @property
    def score(self) -> Array:
        """(strategies, sizes, repeats): the test accuracy of the best epoch's weights."""
        return np.take_along_axis(self.test_accuracy, self.best_epoch[..., None], axis=-1)[..., 0]

    @property
    def cost(self) -> Array:
        """(strategies, sizes): the CPU seconds of a whole run, the median over repeats."""
        return np.asarray(np.median(self.seconds.sum(axis=-1), axis=-1))

    def save(self, folder: Path = TABLES) -> Path:
        """Write `NAME.npz`: curves as float16; outcomes as differences from the majority."""
        usual = self.outcome.mean(axis=(0, 2), keepdims=True) > 0.5
        stored = {
            "num_groups": np.array(self.num_groups),
            "sizes": np.array(self.sizes),
            "tested": np.array(self.outcome.shape[-1]),
            "usual": np.packbits(usual, axis=-1),
            "unusual": np.packbits(self.outcome != usual, axis=-1),
            "val_loss": self.val_loss.astype(np.float16),
            "seconds": self.seconds.astype(np.float16),
        }
        for name in ("val_accuracy", "test_accuracy"):
            stored[name] = np.round(getattr(self, name) * 10_000).astype(np.uint16)
        file = folder / f"{self.task}.npz"
        with file.with_suffix(".partial").open("wb") as stream:
            np.savez_compressed(stream, **stored, **{f"weights/{name}": value for name, value in self.weights.items()})
        return file.with_suffix(".partial").replace(file)

    @classmethod
    def load(cls, task: str, folder: Path = TABLES) -> Self:
        """Load the table of one of `TASKS`."""
        with np.load(folder / f"{task}.npz", allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        tested = int(stored["tested"])
        usual, unusual = (np.unpackbits(stored[name], axis=-1, count=tested) for name in ("usual", "unusual"))
        return cls(
            task=task,
            num_groups=int(stored["num_groups"]),
            sizes=tuple(stored["sizes"].tolist()),
            repeats=stored["val_loss"].shape[2],
            val_loss=stored["val_loss"].astype(np.float32),
            seconds=stored["seconds"].astype(np.float32),
            val_accuracy=stored["val_accuracy"].astype(np.float32) / 10_000,
            test_accuracy=stored["test_accuracy"].astype(np.float32) / 10_000,
            outcome=usual.astype(bool) ^ unusual.astype(bool),
            weights={
                name.removeprefix("weights/"): value for name, value in stored.items() if name.startswith("weights/")
            },
        )


def joined(table: Table, more: Table) -> Table:
    """Append the repeats of another table of the same task."""
    arrays = {
        field.name: np.concatenate([getattr(table, field.name), getattr(more, field.name)], axis=2)
        for field in fields(Cell)
    }
    return replace(table, repeats=table.repeats + more.repeats, weights=table.weights or more.weights, **arrays)


def stacked(cells: list[Cell]) -> dict[str, NDArray[np.generic]]:
    """Cells as arrays, one a field, the cells along the first axis."""
    return {field.name: np.stack([getattr(cell, field.name) for cell in cells]) for field in fields(Cell)}
