"""What is frozen is computed once: blocks of activations, in memory and in files that all processes share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from math import inf
from pathlib import Path

import torch

from search.activations.block_file import CorruptBlock, DiskFull, Layout, Values, check, layout_of, mapped, read
from search.activations.block_folder import BlockFolder

Compute = Callable[[], Iterator[Values]]


class NotFinite(Exception):
    """A value that is too large for float16, or was none to begin with: its block is not to be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Bytes for activations: `memory` held by one process, `disk` in the folder by all together; 0 turns it off."""

    memory: int
    disk: int

    def __post_init__(self) -> None:
        for name in ("memory", "disk"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be at least 0, got {getattr(self, name)}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    tensors: Values
    nbytes: int
    in_memory: bool
    """Else the tensors lie in their file."""


class ActivationStore:
    """Blocks of activations, each computed once: by key, in memory and in files that all processes share.

    What fits the memory is held there, the least recently used going first; what does not is mapped from its file.
    `folder` None: in memory only. `say` hears once of each thing that keeps the store from its work. `waiting` is
    called now and then while another process makes a block that is asked for. For one thread.
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
        self._shelf = BlockFolder(folder, budget.disk) if folder is not None and budget.disk else None
        self._held: dict[str, _Held] = {}  # the one used last at the end
        self._hopeless: set[str] = set()
        self._being_gathered = 0
        self._refused: float = inf
        self._say = say
        self._waiting = waiting
        self._said: set[str] = set()
        if self._shelf is not None:
            self._shelf.tidy()

    def get(self, key: str, *, rows: int, compute: Compute, nbytes: int, fill: bool = True) -> Values | None:
        """The block's tensors, each (rows, ...) on the CPU: held, or from its file, or computed now and put away.

        None where the block fits no budget or `compute` raises `NotFinite`, or where it is not there and `fill` is
        off. The tensors are the store's own: index them, never write into them. `nbytes` is what they are expected
        to take. `compute` yields chunks, examples first, of `rows` rows together (`ValueError` where they are not),
        and may itself ask the store for other blocks; what else it raises goes through.
        """
        held = self._held.pop(key, None) or self._found(key, rows)
        if held is None and fill and key not in self._hopeless:
            self._let_go_of_removed()
            held = self._filled(key, rows, compute, nbytes)
        if held is None:
            return None
        self._held[key] = held
        if self._shelf is not None:
            self._shelf.touch(key)
        return held.tensors

    def _found(self, key: str, rows: int) -> _Held | None:
        """The block from its file, where there is one and it is whole."""
        if self._shelf is None or not (file := self._shelf.file(key)).exists():
            return None
        try:
            nbytes = layout_of(file, rows=rows).nbytes
            if self._fits(nbytes):
                self._let_go(nbytes)
                return _Held(tensors=read(file, rows=rows), nbytes=nbytes, in_memory=True)
            check(file, rows=rows)
            return _Held(tensors=mapped(file, rows=rows), nbytes=nbytes, in_memory=False)
        except FileNotFoundError:  # another process made room meanwhile
            return None
        except (CorruptBlock, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            self._say_once(
                f"{file}: {reason}: these activations are computed again, as are others like it.", about="file"
            )
            self._shelf.remove(key)
            return None

    def _filled(self, key: str, rows: int, compute: Compute, nbytes: int) -> _Held | None:
        """The block made now, unless another process was faster; None where nothing can hold it."""
        with self._claimed(key, nbytes) as shelf:
            if shelf is not None and (found := self._found(key, rows)) is not None:
                return found
            if shelf is None and not self._fits(nbytes):
                return None
            try:
                held = self._made(key, rows, compute, shelf)
            except NotFinite:
                held = None
                self._say_once(
                    "Some activations are too large for float16: they are computed again each time. "
                    '[activations] dtype = "float32" keeps them.',
                    about="float16",
                )
        if held is None:
            self._hopeless.add(key)
        return held

    @contextmanager
    def _claimed(self, key: str, nbytes: int) -> Iterator[BlockFolder | None]:
        """The shelf, and the right to make that block there; None where it is to go to memory only."""
        shelf = self._shelf if nbytes <= self.budget.disk and nbytes < self._refused else None
        with ExitStack() as claim:
            if shelf is not None:
                try:
                    claim.enter_context(shelf.claimed(key, waiting=self._waiting))
                except DiskFull as error:
                    self._give_up(nbytes, error)
                    shelf = None
            elif nbytes > self.budget.disk:
                self._tell_of_budget(nbytes)
            yield shelf

    def _made(self, key: str, rows: int, compute: Compute, shelf: BlockFolder | None) -> _Held | None:
        chunks, held = compute(), None
        first = next(chunks, ())
        if not first:
            raise ValueError("There are no activations to keep.")
        layout = Layout.of(first, rows=rows)
        chunks, nbytes = chain((first,), chunks), layout.nbytes
        if self._fits(nbytes):
            held = _Held(tensors=self._gathered(chunks, layout), nbytes=nbytes, in_memory=True)
            chunks = iter((held.tensors,))
        if shelf is not None:
            try:
                shelf.put(key, chunks, layout)
                return held or self._mapped(key, rows, nbytes)
            except DiskFull as error:
                self._give_up(nbytes, error)
        return held

    def _mapped(self, key: str, rows: int, nbytes: int) -> _Held | None:
        """The block as it lies in its file, which is known to be whole; None where it has none."""
        if self._shelf is not None:
            with suppress(CorruptBlock, OSError):
                return _Held(tensors=mapped(self._shelf.file(key), rows=rows), nbytes=nbytes, in_memory=False)
        return None

    def _gathered(self, chunks: Iterator[Values], layout: Layout) -> Values:
        self._let_go(layout.nbytes)
        self._being_gathered += layout.nbytes  # a block that is asked for meanwhile finds this memory taken
        try:
            return layout.already_batched(chunks)
        finally:
            self._being_gathered -= layout.nbytes

    def _fits(self, nbytes: int) -> bool:
        return self._being_gathered + nbytes <= self.budget.memory

    def _let_go(self, nbytes: int) -> None:
        """Let go of blocks in memory, the least recently used first, until `nbytes` fit; one with a file is mapped."""
        in_memory = {key: held for key, held in self._held.items() if held.in_memory}
        used = self._being_gathered + sum(held.nbytes for held in in_memory.values())
        for key, held in in_memory.items():
            if used + nbytes <= self.budget.memory:
                return
            used -= held.nbytes
            if (instead := self._mapped(key, len(held.tensors[0]), held.nbytes)) is not None:
                self._held[key] = instead
            else:
                del self._held[key]

    def _let_go_of_removed(self) -> None:
        # A map keeps the bytes of a removed file on the disk, past every budget.
        for key, held in list(self._held.items()):
            if not held.in_memory and self._shelf is not None and not self._shelf.file(key).exists():
                del self._held[key]

    def _give_up(self, nbytes: int, error: DiskFull) -> None:
        """Try no block of that size on the disk again: filling one up takes minutes, and mostly it stays full."""
        self._refused = min(self._refused, nbytes)
        self._say_once(
            f"The disk takes no more activations ({error}): {self._instead(nbytes)}.",
            about="disk",
        )

    def _tell_of_budget(self, nbytes: int) -> None:
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
    """The tensors with float32 as float16. Raises `NotFinite` where a value is not finite then."""
    halves = tuple(one.half() if one.dtype == torch.float32 else one for one in tensors)
    if not all(bool(torch.isfinite(one).all()) for one in halves):
        raise NotFinite
    return halves


def _readable(nbytes: int) -> str:
    unit, name = next((one for one in ((1e9, "GB"), (1e6, "MB")) if nbytes >= one[0]), (1e3, "KB"))
    return f"{nbytes / unit:.1f} {name}"
