"""A task's replay table: each strategy's curves on each repeat at each size."""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from strategies import FreezingStrategy
from tests.replay.grid import Grid, stops

TABLES = Path(__file__).parent / "tables"
VALIDATED = 150
"""Labels that were not drawn, as they are imitated where a table has none."""
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cell:
    """One training run: curves, one number an epoch (E,), and `outcomes` (S, N) of the test examples: right or wrong.

    seconds: of CPU time, on one thread, training and validation alone.
    """

    val_loss: Array
    val_accuracy: Array
    seconds: Array
    outcomes: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """All cells of a task. Curves are (strategies, sizes, repeats, epochs).

    Where a run diverged its loss is infinite. weights: the source task's, by name, where there is one.
    test_accuracy: (strategies, sizes, repeats, T), of the epochs `tested`.
    outcomes: (strategies, sizes, repeats, S, N): whether each test example is right, at each of `stops`.
    trains_all: all labels of a size train, and others validate. The older tables, where it is false, train on four
        fifths and validate on the rest. They tested every epoch, but have the outcomes at the best epoch alone: S is 1.
    """

    task: str
    num_groups: int
    sizes: tuple[int, ...]
    repeats: int
    val_loss: Array
    val_accuracy: Array
    test_accuracy: Array
    seconds: Array
    outcomes: NDArray[np.bool_]
    weights: dict[str, Array]
    trains_all: bool

    @property
    def grid(self) -> Grid:
        return Grid.of(self.task, self.num_groups)

    @property
    def strategies(self) -> list[FreezingStrategy]:
        return self.grid.strategies()

    @property
    def tested(self) -> tuple[int, ...]:
        """The epochs whose test accuracy is known."""
        epochs = self.val_loss.shape[-1]
        return stops(epochs) if self.trains_all else tuple(range(epochs))

    @property
    def best_epoch(self) -> NDArray[np.int64]:
        """(strategies, sizes, repeats): of `tested`, the place of the epoch of the lowest validation loss."""
        return np.argmin(self.val_loss[..., self.tested], axis=-1)

    @property
    def score(self) -> Array:
        """(strategies, sizes, repeats): the test accuracy after the last epoch, which is judged."""
        return self.test_accuracy[..., -1]

    @property
    def held_out(self) -> tuple[int, ...]:
        """Of each size, how many labels validate and don't train, in the older tables."""
        if self.trains_all:
            return (0,) * len(self.sizes)
        classes = 9 if self.task == "vowels" else 10
        return tuple(classes * max(1, int(0.2 * size / classes + 0.5)) for size in self.sizes)

    @property
    def trained(self) -> tuple[int, ...]:
        """Of each size, how many labels train."""
        return tuple(size - held for size, held in zip(self.sizes, self.held_out, strict=True))

    @cached_property
    def outcome(self) -> NDArray[np.bool_]:
        """(strategies, sizes, repeats, N): whether each test example is right after the last epoch.

        Where that is not known it is imitated: the outcome at the best epoch, with the fewest examples flipped that
        give the last epoch's accuracy, easy ones to right and hard ones to wrong.
        """
        if self.trains_all:
            return np.asarray(self.outcomes[..., -1, :])
        return _flipped(self.outcomes[..., 0, :], self.score)

    @cached_property
    def undrawn(self) -> Array:
        """(strategies, sizes, repeats, epochs): the accuracy on labels that were not drawn.

        Where only a few of the drawn ones validated it is imitated. Their accuracy's distance from the test accuracy is
        shrunk to the size that it would have with `VALIDATED` examples.
        """
        if self.trains_all:
            return self.val_accuracy
        shrink = np.sqrt(np.array(self.held_out, dtype=np.float32) / VALIDATED)[:, None, None]
        return np.asarray(np.clip(self.test_accuracy + (self.val_accuracy - self.test_accuracy) * shrink, 0, 1))

    @cached_property
    def values(self) -> Array:
        """(strategies, sizes, repeats, epochs): a trial's value in each epoch, as the product reports it.

        It is the mean of `undrawn` over the last quarter of the epochs so far.
        """
        sums = np.cumsum(self.undrawn, axis=-1, dtype=np.float64)
        sums = np.concatenate([np.zeros_like(sums[..., :1]), sums], axis=-1)
        ends = np.arange(1, sums.shape[-1])
        late = np.maximum(1, ends // 4)
        return np.asarray((sums[..., ends] - sums[..., ends - late]) / late, dtype=np.float32)

    @property
    def cost(self) -> Array:
        """(strategies, sizes): the CPU seconds of a whole run, the median over repeats."""
        return np.asarray(np.median(self.seconds.sum(axis=-1), axis=-1))

    def save(self, folder: Path = TABLES) -> Path:
        """Write `NAME.npz`: curves as float16; outcomes as differences from the majority."""
        usual = self.outcomes.mean(axis=(0, 2), keepdims=True) > 0.5
        stored = {
            "num_groups": np.array(self.num_groups),
            "sizes": np.array(self.sizes),
            "tested": np.array(self.outcomes.shape[-1]),
            "trains_all": np.array(self.trains_all),
            "usual": np.packbits(usual, axis=-1),
            "unusual": np.packbits(self.outcomes != usual, axis=-1),
            "val_loss": self.val_loss.astype(np.float16),
            "seconds": self.seconds.astype(np.float16),
            "val_accuracy": _packed(self.val_accuracy),
        }
        if not self.trains_all:
            stored["test_accuracy"] = _packed(self.test_accuracy)
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
        outcomes = usual.astype(bool) ^ unusual.astype(bool)
        trains_all = bool(stored.get("trains_all", False))
        return cls(
            task=task,
            num_groups=int(stored["num_groups"]),
            sizes=tuple(stored["sizes"].tolist()),
            repeats=stored["val_loss"].shape[2],
            val_loss=stored["val_loss"].astype(np.float32),
            seconds=stored["seconds"].astype(np.float32),
            val_accuracy=stored["val_accuracy"].astype(np.float32) / 10_000,
            test_accuracy=accuracy(outcomes) if trains_all else stored["test_accuracy"].astype(np.float32) / 10_000,
            outcomes=outcomes if outcomes.ndim == 5 else outcomes[..., None, :],
            trains_all=trains_all,
            weights={
                name.removeprefix("weights/"): value for name, value in stored.items() if name.startswith("weights/")
            },
        )


def joined(table: Table, more: Table) -> Table:
    """Append the repeats of another table of the same task."""
    arrays = {
        name: np.concatenate([getattr(table, name), getattr(more, name)], axis=2)
        for name in (*Cell.__dataclass_fields__, "test_accuracy")
    }
    return replace(table, repeats=table.repeats + more.repeats, weights=table.weights or more.weights, **arrays)


def stacked(cells: list[Cell]) -> dict[str, NDArray[np.generic]]:
    """Cells as arrays, one a field, the cells along the first axis."""
    return {field.name: np.stack([getattr(cell, field.name) for cell in cells]) for field in fields(Cell)}


def accuracy(outcomes: NDArray[np.bool_]) -> Array:
    """Return the share of right ones, along the last axis."""
    return outcomes.mean(axis=-1, dtype=np.float32)


def _packed(shares: Array) -> NDArray[np.uint16]:
    return np.round(shares * 10_000).astype(np.uint16)


def _flipped(outcome: NDArray[np.bool_], shares: Array) -> NDArray[np.bool_]:
    """Return outcomes (strategies, sizes, repeats, N) with so many flipped that these shares (...) are right."""
    ease = np.argsort(-outcome.mean(axis=(0, 2), dtype=np.float32), axis=-1)[None, :, None]  # alike for all runs
    right = np.take_along_axis(outcome, ease, axis=-1)
    more = (np.round(shares * right.shape[-1]).astype(np.int16) - right.sum(axis=-1, dtype=np.int16))[..., None]
    wrongs = np.cumsum(~right, axis=-1, dtype=np.int16)
    rights = np.cumsum(right[..., ::-1], axis=-1, dtype=np.int16)[..., ::-1]  # from the hardest on
    flipped = (right & ~(rights <= -more)) | (~right & (wrongs <= more))
    return np.asarray(np.take_along_axis(flipped, np.argsort(ease, axis=-1), axis=-1))
