"""A block of activations as a file: written once, whole, and never changed.

magic | length and checksum of the header | header (JSON: shapes, dtypes, checksums) | each tensor's bytes, aligned
"""

import json
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

Values = tuple[Tensor, ...]

MAGIC = b"frost-1\n"
"""Another number where the format changes."""
ALIGNED = 64
PIECE = 8 << 20
"""Bytes read at once: many for the disk, few for the memory."""


class CorruptBlock(Exception):
    """A file that is no whole block, or not the one that is looked for."""


class DiskFull(Exception):
    """The disk takes no such block: it or its budget is full, or it can't be written or locked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a block's tensors look like, each (rows, ...), and where they lie in its file."""

    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]

    @classmethod
    def of(cls, chunk: Values, *, rows: int) -> "Layout":
        """The layout of a block of that many rows that begins with this chunk."""
        shapes = tuple((rows, *tensor.shape[1:]) for tensor in chunk)
        return cls(shapes=shapes, dtypes=tuple(tensor.dtype for tensor in chunk))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Each tensor's bytes."""
        return tuple(prod(shape) * dtype.itemsize for shape, dtype in zip(self.shapes, self.dtypes, strict=True))

    @property
    def nbytes(self) -> int:
        return sum(self.sizes)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each tensor begins in the file, and where the file ends."""
        start = len(self.header([0] * len(self.shapes)))
        return tuple(accumulate(map(_aligned, self.sizes), initial=_aligned(start)))

    def header(self, checksums: list[int]) -> bytes:
        """The file's beginning; it is as long whatever the checksums are."""
        names = [str(dtype).removeprefix("torch.") for dtype in self.dtypes]
        known = {"shapes": self.shapes, "dtypes": names, "checksums": [f"{one:08x}" for one in checksums]}
        text = json.dumps(known).encode()
        return MAGIC + len(text).to_bytes(4, "little") + zlib.crc32(text).to_bytes(4, "little") + text

    def is_sound(self) -> bool:
        """Whether there can be such tensors: the header of a file may say anything."""
        typed = len(self.dtypes) == len(self.shapes) and all(isinstance(one, torch.dtype) for one in self.dtypes)
        sides = [side for shape in self.shapes for side in shape]
        whole = all(type(side) is int and side >= 0 for side in sides)
        return typed and whole and bool(self.shapes) and all(self.shapes)

    def empty(self) -> Values:
        return tuple(torch.empty(shape, dtype=dtype) for shape, dtype in zip(self.shapes, self.dtypes, strict=True))

    def checked(self, chunks: Iterable[Values]) -> Iterator[Values]:
        """The chunks. Raises `ValueError` where they do not make up the block."""
        rows = 0
        for chunk in chunks:
            if Layout.of(chunk, rows=self.shapes[0][0]) != self or len({len(tensor) for tensor in chunk}) != 1:
                raise ValueError(f"A chunk of {[tuple(one.shape) for one in chunk]} is no part of a block of {self}.")
            rows += len(chunk[0])
            yield chunk
        if rows != self.shapes[0][0]:
            raise ValueError(f"The chunks have {rows} rows together, not {self.shapes[0][0]}.")

    def already_batched(self, chunks: Iterable[Values]) -> Values:
        """The chunks as one block in memory of its own: later layers that work in place can't change it."""
        tensors, begin = self.empty(), 0
        for chunk in self.checked(chunks):
            end = begin + len(chunk[0])
            for whole, part in zip(tensors, chunk, strict=True):
                if end <= len(whole):  # else there are too many, which is said at the end
                    whole[begin:end].copy_(part.detach())
            begin = end
        return tensors


def write(path: Path, chunks: Iterable[Values], layout: Layout) -> None:
    """Write a block's file over one that is there. Raises `DiskFull`; what `chunks` raises goes through."""
    checksums, places = [0] * len(layout.shapes), list(layout.offsets)
    # Written, never mapped: on a full disk a write is an error, but a store through a map kills the process.
    with refused():
        file = path.open("r+b", buffering=0)
    with file:
        for chunk in layout.checked(chunks):
            with refused():
                for index, tensor in enumerate(chunk):
                    piece = _bytes(tensor)
                    _put(piece, file, at=places[index])
                    checksums[index] = zlib.crc32(piece, checksums[index])
                    places[index] += len(piece)
        with refused():
            # Not synced: after a power cut the checksums tell.
            _put(memoryview(layout.header(checksums)), file, at=0)


def layout_of(path: Path, *, rows: int) -> Layout:
    """The layout of a file that holds a block of so many rows. Raises `CorruptBlock`, or `OSError`."""
    with _plain(path).open("rb", buffering=0) as file:
        return _opened(file, rows=rows)[0]


def read(path: Path, *, rows: int) -> Values:
    """The block of a file, in memory of its own. Raises `CorruptBlock`, or `OSError`."""
    with _plain(path).open("rb", buffering=0) as file:
        layout, checksums = _opened(file, rows=rows)
        tensors = layout.empty()
        for tensor, checksum, offset in zip(tensors, checksums, layout.offsets, strict=False):
            whole = _bytes(tensor)
            pieces = (whole[begin : begin + PIECE] for begin in range(0, len(whole), PIECE))
            _read(pieces, file, at=offset, checksum=checksum)
    return tensors


def check(path: Path, *, rows: int) -> None:
    """Read a block's file through, which leaves it warm for the map. Raises `CorruptBlock`, or `OSError`."""
    scratch = memoryview(bytearray(PIECE))
    with _plain(path).open("rb", buffering=0) as file:
        layout, checksums = _opened(file, rows=rows)
        for size, checksum, offset in zip(layout.sizes, checksums, layout.offsets, strict=False):
            pieces = (scratch[: min(PIECE, size - begin)] for begin in range(0, size, PIECE))
            _read(pieces, file, at=offset, checksum=checksum)


def mapped(path: Path, *, rows: int) -> Values:
    """A block's tensors as they lie in its file, usable even when it is removed. Raises `CorruptBlock`, or `OSError`.

    Copy-on-write: what is written into them stays in this process.
    """
    layout = layout_of(path, rows=rows)
    try:
        # It holds no descriptor of the file, of which a process may have few.
        whole = torch.from_file(str(path), shared=False, size=layout.offsets[-1], dtype=torch.uint8)
    except RuntimeError as error:
        raise (OSError if path.exists() else FileNotFoundError)(str(error)) from None
    pieces = zip(layout.offsets, layout.sizes, layout.dtypes, layout.shapes, strict=False)
    return tuple(whole[offset : offset + size].view(dtype).view(shape) for offset, size, dtype, shape in pieces)


@contextmanager
def refused() -> Iterator[None]:
    """`DiskFull` for what the disk refuses."""
    try:
        yield
    except (OSError, NotImplementedError) as error:  # the latter is filelock's, where there are no locks
        raise DiskFull(getattr(error, "strerror", None) or str(error)) from error


def _plain(path: Path) -> Path:
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise CorruptBlock("is no plain file")
    return path


def _opened(file: BinaryIO, *, rows: int) -> tuple[Layout, list[int]]:
    start = file.read(len(MAGIC) + 8)
    if not start.startswith(MAGIC) or len(start) < len(MAGIC) + 8:
        raise CorruptBlock("does not begin like a block of this version")
    text = file.read(min(int.from_bytes(start[-8:-4], "little"), PIECE))
    if zlib.crc32(text) != int.from_bytes(start[-4:], "little"):
        raise CorruptBlock("its header is damaged")
    try:
        known = json.loads(text)
        dtypes = tuple(getattr(torch, name) for name in known["dtypes"])
        layout = Layout(shapes=tuple(map(tuple, known["shapes"])), dtypes=dtypes)
        checksums = [int(one, 16) for one in known["checksums"]]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise CorruptBlock("its header is of another version") from None
    if not layout.is_sound() or len(checksums) != len(layout.shapes):
        raise CorruptBlock("its header says nothing that can be")
    if any(shape[0] != rows for shape in layout.shapes):
        raise CorruptBlock(f"holds {layout.shapes[0][0]} rows, not {rows}")
    if os.fstat(file.fileno()).st_size != layout.offsets[-1]:
        raise CorruptBlock("is not as long as it should be")
    return layout, checksums


def _read(pieces: Iterable[memoryview], file: BinaryIO, *, at: int, checksum: int) -> None:
    file.seek(at)
    found = 0
    for piece in pieces:
        done = 0
        while done < len(piece):
            # A raw file may give less than is asked for; at its end, nothing.
            if not (count := file.readinto(piece[done:])):  # type: ignore[attr-defined]
                raise CorruptBlock("ends too early")
            done += count
        found = zlib.crc32(piece, found)
    if found != checksum:
        raise CorruptBlock("its content is damaged")


def _put(piece: memoryview, file: BinaryIO, *, at: int) -> None:
    file.seek(at)
    done = 0
    while done < len(piece):
        done += file.write(piece[done:])


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data


def _aligned(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED
