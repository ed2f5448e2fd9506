"""Blocks that count how often they are computed, budgets for them, and what a store holds of them."""

from collections.abc import Iterator
from pathlib import Path

import torch

from search.activations.block import BlockLayout
from search.activations.slots import Layout, Values
from search.activations.store import ActivationStore, Budget

MB = 10**6
ROWS = 8
BOTH = Budget(memory=MB, disk=MB)
DISK = Budget(memory=0, disk=MB)
MEMORY = Budget(memory=MB, disk=0)
NOTHING = Budget(memory=0, disk=0)


def layout_of(*tensors: torch.Tensor) -> BlockLayout:
    """Return the layout of a block of these tensors."""
    values = tuple(Layout(tuple(tensor.shape[1:]), tensor.dtype) for tensor in tensors)
    return BlockLayout(rows=len(tensors[0]), values=values)


class Block:
    """A block of a float and an integer tensor, and how often it was computed."""

    def __init__(self, key: str = "a", *, width: int = 10) -> None:
        generator = torch.Generator().manual_seed(sum(key.encode()))
        self.key = key
        self.tensors = torch.randn(ROWS, width, 2, generator=generator), torch.arange(ROWS)
        self.layout = layout_of(*self.tensors)
        self.nbytes = self.layout.nbytes
        self.computed = 0

    def compute(self) -> Iterator[Values]:
        self.computed += 1
        for rows in (slice(0, 3), slice(3, 6), slice(6, ROWS)):
            yield tuple(tensor[rows] for tensor in self.tensors)

    def of(self, store: ActivationStore, *, fill: bool = True) -> Values | None:
        return store.get(self.key, self.layout, self.compute, fill=fill)

    def is_in(self, store: ActivationStore) -> bool:
        found = self.of(store)
        return found is not None and all(map(torch.equal, found, self.tensors))


def left_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()} - {"room.lock"}


def in_memory(store: ActivationStore) -> int:
    return sum(held.layout.nbytes for held in store._held.values() if held.in_memory)
