"""Blocks of activations, computed once: in memory, and in files that all processes share.

Memory is bounded here, disk in `block_folder`.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import numpy as np
import torch

from search.activations.block import BlockLayout
from search.activations.block_folder import BlockFolder, DiskFull
from search.activations.slots import Values
from search.array_file import BrokenArray, Bytes, read_array

Compute = Callable[[], Iterator[Values]]


class NotFinite(Exception):
    """A value that float16 can't hold, so that its block is not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Bytes for activations: `memory` of one process, `disk` of all together; 0 for none."""

    memory: int
    disk: int

    def __post_init__(self) -> None:
        for name in ("memory", "disk"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be at least 0, got {getattr(self, name)}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """A block's values, in memory or mapped from its file."""

    layout: BlockLayout
    values: Values
    in_memory: bool


class ActivationStore:
    """Blocks of activations by key, each computed once.

    Blocks that fit the memory are held there; the least recently used leave first. Others are mapped from their files.
    For one thread.

    folder: None for memory only.
    say: is called once with each reason that keeps the store from its work.
    waiting: is called now and then while another process makes a block that is asked for.
    """

    def __init__(
        self,
        folder: Path | None,
        budget: Budget,
        *,
        say: Callable[[str], None] = print,
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self.budget = budget if folder is not None else replace(budget, disk=0)
        self._folder = BlockFolder(folder, budget.disk) if folder is not None and budget.disk else None
        self._held: dict[str, _Held] = {}  # the one used last at the end
        self._unkeepable: set[str] = set()
        self._reserved_bytes = 0
        self._smallest_refused_bytes: float = inf
        self._say = say
        self._waiting = waiting
        self._said: set[str] = set()
        if self._folder is not None:
            self._folder.evict()

    def get(self, key: str, layout: BlockLayout, compute: Compute, *, fill: bool = True) -> Values | None:
        """Return a block's values, each (rows, ...) on the CPU: held, read, or computed now.

        Returns None where the block fits no budget, where `compute` raises `NotFinite`, or where it is not there and
        `fill` is off. The tensors are the store's own: index them, never write into them.

        compute: yields chunks of values that have `rows` rows together (else `ValueError`). It may ask the store for
            other blocks; its errors go through.
        """
        held = self._held.pop(key, None) or self._read(key, layout)
        if held is None and fill and key not in self._unkeepable:
            self._drop_removed()
            held = self._fill(key, layout, compute)
        if held is None:
            return None
        self._held[key] = held
        if self._folder is not None:
            self._folder.touch(key)
        return held.values

    def _read(self, key: str, layout: BlockLayout) -> _Held | None:
        """Return the block from its file, where there is one and it is whole."""
        if self._folder is None or not (file := self._folder.file(key)).exists():
            return None
        try:
            if in_memory := self._fits(layout.nbytes):
                self._free(layout.nbytes)
            block = read_array(file, layout.shape, mapped=not in_memory)
        except FileNotFoundError:  # another process made room meanwhile
            return None
        except (BrokenArray, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            self._say_once(
                f"{file}: {reason}: these activations are computed again, as are others like it.", about="file"
            )
            self._folder.remove(key)
            return None
        return _Held(layout=layout, values=layout.tensors(block), in_memory=in_memory)

    def _fill(self, key: str, layout: BlockLayout, compute: Compute) -> _Held | None:
        """Make a block, unless another process was faster; None if nothing can hold it."""
        with self._reserved(key, layout.nbytes) as folder:
            if folder is not None and (found := self._read(key, layout)) is not None:
                return found
            if folder is None and not self._fits(layout.nbytes):
                return None
            held = None
            try:
                held = self._compute(key, layout, compute, folder)
            except NotFinite:
                self._say_once(
                    "Some activations are too large for float16: they are computed again each time. "
                    '[activations] dtype = "float32" keeps them.',
                    about="float16",
                )
        if held is None:
            self._unkeepable.add(key)
        return held

    @contextmanager
    def _reserved(self, key: str, nbytes: int) -> Iterator[BlockFolder | None]:
        """Yield the folder, with the right to make that block there; None for memory only."""
        folder = self._folder if nbytes <= self.budget.disk and nbytes < self._smallest_refused_bytes else None
        with ExitStack() as stack:
            if folder is not None:
                try:
                    stack.enter_context(folder.reserve(key, waiting=self._waiting))
                except DiskFull as error:
                    self._give_up(nbytes, error)
                    folder = None
            elif nbytes > self.budget.disk:
                self._say_budget(nbytes)
            yield folder

    def _compute(self, key: str, layout: BlockLayout, compute: Compute, folder: BlockFolder | None) -> _Held | None:
        pieces, held = layout.pieces(compute()), None
        if self._fits(layout.nbytes):
            block = self._gather(pieces, layout)
            held = _Held(layout=layout, values=layout.tensors(block), in_memory=True)
            pieces = iter((block,))
        if folder is not None:
            try:
                folder.write(key, layout.shape, pieces)
                return held or self._map(key, layout)
            except DiskFull as error:
                self._give_up(layout.nbytes, error)
        return held

    def _map(self, key: str, layout: BlockLayout) -> _Held | None:
        """Map a block's file, which is known to be whole; None where there is none."""
        if self._folder is not None:
            with suppress(BrokenArray, OSError):
                block = read_array(self._folder.file(key), layout.shape, checked=False)
                return _Held(layout=layout, values=layout.tensors(block), in_memory=False)
        return None

    def _gather(self, pieces: Iterator[Bytes], layout: BlockLayout) -> Bytes:
        self._free(layout.nbytes)
        self._reserved_bytes += layout.nbytes  # a block that is asked for meanwhile finds this memory taken
        try:
            block, begin = np.empty(layout.shape, dtype=np.uint8), 0
            for piece in pieces:
                block[begin : begin + len(piece)] = piece
                begin += len(piece)
            return block
        finally:
            self._reserved_bytes -= layout.nbytes

    def _fits(self, nbytes: int) -> bool:
        return self._reserved_bytes + nbytes <= self.budget.memory

    def _free(self, nbytes: int) -> None:
        """Drop or map blocks in memory, the least recently used first, until `nbytes` fit."""
        in_memory = {key: held for key, held in self._held.items() if held.in_memory}
        used = self._reserved_bytes + sum(held.layout.nbytes for held in in_memory.values())
        for key, held in in_memory.items():
            if used + nbytes <= self.budget.memory:
                return
            used -= held.layout.nbytes
            if (instead := self._map(key, held.layout)) is not None:
                self._held[key] = instead
            else:
                del self._held[key]

    def _drop_removed(self) -> None:
        # A map keeps the bytes of a removed file on the disk, past every budget.
        for key, held in list(self._held.items()):
            if not held.in_memory and self._folder is not None and not self._folder.file(key).exists():
                del self._held[key]

    def _give_up(self, nbytes: int, error: DiskFull) -> None:
        """Try no block of that size on the disk again: filling it takes minutes."""
        self._smallest_refused_bytes = min(self._smallest_refused_bytes, nbytes)
        self._say_once(f"The disk takes no more activations ({error}): {self._instead(nbytes)}.", about="disk")

    def _say_budget(self, nbytes: int) -> None:
        budget, fits = self.budget, self._fits(nbytes)
        if not budget.disk and (fits or not budget.memory):
            return  # as it was asked for
        memory = "" if fits else f" and memory = {budget.memory / 1e9:g}"
        self._say_once(
            f"{_readable(nbytes)} of activations are more than [activations] disk = {budget.disk / 1e9:g}{memory} GB "
            f"hold: {self._instead(nbytes)}.",
            about=f"budget{memory}",
        )

    def _instead(self, nbytes: int) -> str:
        return "each process computes them once" if self._fits(nbytes) else "they are computed again each time"

    def _say_once(self, message: str, *, about: str) -> None:
        if about not in self._said:
            self._said.add(about)
            self._say(message)


def to_float16(tensors: Values) -> Values:
    """Return the tensors with float32 as float16. Raises `NotFinite` for too large values."""
    halves = tuple(one.half() if one.dtype == torch.float32 else one for one in tensors)
    if not all(bool(torch.isfinite(one).all()) for one in halves):
        raise NotFinite
    return halves


def _readable(nbytes: int) -> str:
    unit, name = next((one for one in ((1e9, "GB"), (1e6, "MB")) if nbytes >= one[0]), (1e3, "KB"))
    return f"{nbytes / unit:.1f} {name}"
