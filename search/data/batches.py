"""Batches: endless shuffled passes over the training set, cut into epochs."""

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import Sampler

from search.data.examples import Batch, Examples


class Reading(Protocol):
    """Examples that each epoch may read in another form: plain ones, or cached activations."""

    def __len__(self) -> int: ...

    def at(self, epoch: int) -> Examples: ...


class EndlessSampler(Sampler[tuple[int, int]]):
    """Shuffled passes over `size` examples, laid end to end and cut into epochs of `length`.

    An epoch is a pure function of (seed, epoch): pass p is the permutation drawn from (seed, p), and Lightning calls
    `set_epoch` before each epoch. So runs with the same seed see the same batches, and a resumed run sees the
    batches that it would have seen. It yields pairs: an example's index, and the number of its pass, which chooses
    the augmented view.
    """

    def __init__(self, size: int, *, length: int, seed: int) -> None:
        self.size = size
        self.length = length
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        indices, passes = self.read()
        return zip(indices.tolist(), passes.tolist(), strict=True)

    def read(self) -> tuple[Tensor, Tensor]:
        """Return the epoch's examples by index (length,), and the number of each one's pass (length,)."""
        start = self.epoch * self.length
        first, last = start // self.size, (start + self.length - 1) // self.size
        stream = torch.cat([self._pass(number) for number in range(first, last + 1)])
        passes = torch.arange(first, last + 1).repeat_interleave(self.size)
        begin = start - first * self.size
        chosen = slice(begin, begin + self.length)
        return stream[chosen], passes[chosen]

    def _pass(self, number: int) -> Tensor:
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + number) % 2**63)
        return torch.randperm(self.size, generator=generator)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainLoader:
    """The training set's batches, an epoch an iteration: gathered from tensors, without worker processes.

    Lightning takes any iterable, and hands the epoch to its `sampler`. At these sizes a `DataLoader` costs more than
    the batch: with two workers, LeNet trials took 2.6 times as long.
    """

    examples: Reading
    batch_size: int
    sampler: EndlessSampler

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        _draw()
        examples = self.examples.at(self.sampler.epoch)
        indices, passes = (torch.split(part, self.batch_size) for part in self.sampler.read())
        for chosen in zip(indices, passes, strict=True):
            yield examples.take(*chosen)


@dataclass(frozen=True, slots=True, eq=False)
class EvalLoader:
    """Batches in order, without augmentation, as in the epoch that `epoch` returns."""

    examples: Reading
    _: KW_ONLY
    batch_size: int = 1024
    epoch: Callable[[], int] = lambda: 0

    def __len__(self) -> int:
        return -(-len(self.examples) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        _draw()
        examples = self.examples.at(self.epoch())
        for chosen in torch.split(torch.arange(len(examples)), self.batch_size):
            yield examples.take(chosen)


def _draw() -> None:
    # A `DataLoader` draws this (its workers' seed) when its first batch is asked for. So dropout has the same random
    # numbers here as in the `DataLoader` of somebody who trains with the strategy that was found.
    torch.empty((), dtype=torch.int64).random_()


def train_loader(examples: Reading, *, batch_size: int, steps: int | None, seed: int) -> TrainLoader:
    """Return batches of `batch_size`, `steps` an epoch; with None an epoch is one pass.

    A pass that would end in a batch of one example, which batch norm can't train on, leaves it to the next.
    """
    size = len(examples)
    whole = size - 1 if size > batch_size and size % batch_size == 1 else size
    sampler = EndlessSampler(size, length=whole if steps is None else steps * batch_size, seed=seed)
    return TrainLoader(examples=examples, batch_size=batch_size, sampler=sampler)
