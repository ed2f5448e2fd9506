"""Arrays of bytes in `.npy` files: written once, whole, and read by memory map.

The expected shape is known to the reader, so a file is compared with its header and never parsed.
"""

import io
import os
import zlib
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
CHECKSUM_BYTES = 4
"""Bytes of the checksum behind the array, which other readers of `.npy` files pass over."""
CHUNK_BYTES = 8 << 20
"""Bytes that are checked at once."""


class BrokenArray(Exception):
    """A file that does not hold the expected array. Its text is one clause."""


def size_of(shape: tuple[int, ...]) -> int:
    """Return the bytes of the file of an array of that shape."""
    return len(_header(shape)) + prod(shape) + CHECKSUM_BYTES


class ArrayWriter:
    """An array of that shape, written to a stream piece by piece.

    Its methods raise `OSError`. Give it the stream of `files.replacing`, so that the file appears whole or not at all.
    """

    def __init__(self, stream: BinaryIO, shape: tuple[int, ...]) -> None:
        self._file = stream.fileno()
        self._checksum = 0
        self._put(memoryview(_header(shape)))

    def write(self, piece: Bytes) -> None:
        """Write the next rows, which are contiguous."""
        content = piece.reshape(-1).data
        self._put(content)
        self._checksum = zlib.crc32(content, self._checksum)

    def finish(self) -> None:
        """Write what follows the last row, and sync the file."""
        self._put(memoryview(self._checksum.to_bytes(CHECKSUM_BYTES, "little")))
        os.fsync(self._file)

    def _put(self, content: memoryview) -> None:
        # Written, never mapped: on a full disk a write is an error, but a store through a map kills the process.
        # Not buffered: closing the stream would fail again.
        while len(content):
            content = content[os.write(self._file, content) :]


def read_array(file: Path, shape: tuple[int, ...], *, mapped: bool = True, checked: bool = True) -> Bytes:
    """Return a file's array: a copy-on-write memory map that outlives the file, or a copy.

    With `checked` it is read through, which finds damage and leaves it warm. Raises `BrokenArray`, or `OSError`.
    """
    header = _header(shape)
    if not file.is_file():  # a pipe would be waited for, and a broken link would be followed
        raise BrokenArray("is no plain file") if file.exists() else FileNotFoundError(file)
    with file.open("rb") as stream:
        if os.fstat(stream.fileno()).st_size != size_of(shape) or stream.read(len(header)) != header:
            raise BrokenArray(f"holds no array of shape {shape}")
    try:
        # NumPy's map keeps a file descriptor, of which a process may have few.
        whole = (
            torch.from_file(str(file), shared=False, size=size_of(shape), dtype=torch.uint8).numpy()
            if mapped
            else np.fromfile(file, dtype=np.uint8)
        )
    except RuntimeError as error:
        raise (OSError if file.exists() else FileNotFoundError)(str(error)) from None
    content = whole[len(header) : -CHECKSUM_BYTES]
    if checked and _checksum(content) != int.from_bytes(whole[-CHECKSUM_BYTES:].tobytes(), "little"):
        raise BrokenArray("its content is damaged")
    return content.reshape(shape)


def _checksum(content: Bytes) -> int:
    checksum = 0
    for begin in range(0, len(content), CHUNK_BYTES):
        checksum = zlib.crc32(content[begin : begin + CHUNK_BYTES].data, checksum)
    return checksum


def _header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue()
