"""Batches: the training set read on and on, a fixed number of steps an epoch."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from search.tasks.examples import Batch, Examples, gathered

EVAL_BATCH = 1024


class EndlessSampler(Sampler[tuple[int, int]]):
    """Shuffled passes over `size` examples, laid end to end and cut into epochs of `length`.

    What an epoch reads is a pure function of (seed, epoch): pass p is the permutation drawn from (seed, p), and
    Lightning calls `set_epoch` before each epoch. So runs with the same seed see the same batches, and a run
    that resumes goes on where it stopped. It yields pairs of an example's index and the number of its pass, which
    is the augmented view of the example that the pass shows.
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
        start = self.epoch * self.length
        first, last = start // self.size, (start + self.length - 1) // self.size
        stream = torch.cat([self._pass(number) for number in range(first, last + 1)])
        views = torch.arange(first, last + 1).repeat_interleave(self.size)
        begin = start - first * self.size
        chosen = slice(begin, begin + self.length)
        return zip(stream[chosen].tolist(), views[chosen].tolist(), strict=True)

    def _pass(self, number: int) -> Tensor:
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + number) % 2**63)
        return torch.randperm(self.size, generator=generator)


def train_loader(examples: Examples, *, batch_size: int, steps: int | None, seed: int) -> DataLoader[Batch]:
    """Batches of `batch_size`, `steps` of them an epoch; with None an epoch is one pass over the examples.

    A pass that would end in a batch of one example, which batch norm can't train on, leaves it to the next.
    """
    size = len(examples)
    if steps is not None:
        length = steps * batch_size
    else:
        length = size - 1 if size > batch_size and size % batch_size == 1 else size
    sampler = EndlessSampler(size, length=length, seed=seed)
    return DataLoader(examples, batch_size=batch_size, sampler=sampler, collate_fn=gathered)


def eval_loader(examples: Examples, *, batch_size: int = EVAL_BATCH) -> DataLoader[Batch]:
    """The examples in order, as they are, without augmentation."""
    return DataLoader(examples, batch_size=batch_size, collate_fn=gathered)
