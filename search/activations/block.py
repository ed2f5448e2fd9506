"""Values of some examples as one array of bytes, a row each."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch

from search.activations.slots import Layout, Values
from search.array_file import Bytes

ALIGNED_BYTES = 8
"""Where several values share a row, each begins at a multiple of this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLayout:
    """Layout of a block: the values of each row (an example)."""

    rows: int
    values: tuple[Layout, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and bytes a row."""
        return self.rows, self._offsets[-1]

    @property
    def nbytes(self) -> int:
        return self.rows * self._offsets[-1]

    @property
    def _offsets(self) -> tuple[int, ...]:
        sizes = [layout.nbytes for layout in self.values]
        if len(sizes) > 1:
            sizes = [-(-size // ALIGNED_BYTES) * ALIGNED_BYTES for size in sizes]
        return tuple(accumulate(sizes, initial=0))

    def pieces(self, chunks: Iterable[Values]) -> Iterator[Bytes]:
        """Yield each chunk's rows as bytes (n, B).

        Raises `ValueError` where the chunks do not make up the block.
        """
        rows = 0
        for chunk in chunks:
            found = tuple(Layout(tuple(one.shape[1:]), one.dtype) for one in chunk)
            if found != self.values or len({len(one) for one in chunk}) != 1:
                raise ValueError(f"A chunk of {found} is no part of a block of {self.values}.")
            rows += len(chunk[0])
            if rows > self.rows:
                break
            made = np.zeros((len(chunk[0]), self._offsets[-1]), dtype=np.uint8)
            for value, target in zip(chunk, self.tensors(made), strict=True):
                target.copy_(value.detach())
            yield made
        if rows != self.rows:
            raise ValueError(f"The chunks have at least {rows} rows together, not {self.rows}.")

    def tensors(self, block: Bytes) -> Values:
        """Return a block's values, each (N, ...), which share its memory."""
        whole = torch.from_numpy(block)
        parts = zip(self._offsets, self.values, strict=False)
        return tuple(
            whole[:, offset : offset + layout.nbytes].view(layout.dtype).view(len(whole), *layout.shape)
            for offset, layout in parts
        )
