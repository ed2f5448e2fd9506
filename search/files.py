"""Files in folders that others may write to: archives that are not what they say, names that are links."""

import errno
import os
import stat
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
PAUSE = 2.0
"""Seconds between two looks for room on a full disk."""
LARGE = 10**9
"""Bytes of arrays that are read whatever the size of their file."""
DENSE = 200
"""Of more bytes, so many times the file's is the most: pictures and scores stay far below, zeros reach a thousand."""


class BrokenArchive(Exception):
    """A file that is no `.npz` of plain arrays, or one that would fill the memory. Its text is one line."""


def read_arrays(file: Path, *names: str) -> dict[str, NDArray[Any]]:
    """These arrays of an `.npz` file, or all. Nothing pickled is read. Raises `BrokenArchive`."""
    try:
        # A pipe would be waited for, a device read without end.
        if not stat.S_ISREG(file.stat().st_mode):
            raise BrokenArchive("it is no plain file")
        # Opened here, because numpy leaves a file that is no archive open.
        with file.open("rb") as stream:
            if not zipfile.is_zipfile(stream):
                raise BrokenArchive("it is no archive (one array without a name is an .npy file)")
            check_size(stream)
            with np.load(stream, allow_pickle=False) as content:
                return {name: _whole(content[name]) for name in names or content.files}
    except BrokenArchive:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise whatever a broken file makes them run into
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BrokenArchive(" ".join(reason.split())[:200]) from error


def check_size(stream: BinaryIO) -> None:
    """Raises `BrokenArchive` for a zip file that would fill the memory; leaves the stream at its beginning."""
    packed = stream.seek(0, os.SEEK_END)
    with zipfile.ZipFile(stream) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > max(LARGE, DENSE * packed):
        raise BrokenArchive(f"its {packed / 1e6:.1f} MB unpack to {unpacked / 1e9:.1f} GB")
    stream.seek(0)


def _whole(array: Any) -> NDArray[Any]:
    if not isinstance(array, np.ndarray):  # of a member that is no array, numpy gives the bytes
        raise BrokenArchive("it holds something else than arrays")
    return array


def is_full(error: OSError) -> bool:
    """Whether a file could not be written for want of room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_refused(error: OSError) -> bool:
    """Whether a file could not be written for what the user can change: want of room, or of the right to."""
    return is_full(error) or error.errno in (errno.EROFS, errno.EACCES)


def when_there_is_room(
    write: Callable[[], T], *, patience: float, say: Callable[[str], None], meanwhile: Callable[[], None]
) -> T:
    """What `write` returns, tried again for `patience` seconds while the disk is full, which `say` is told."""
    since: float | None = None
    while True:
        try:
            return write()
        except OSError as error:
            if not is_full(error):
                raise
            if since is None:
                since = time.monotonic()
                say(f"No room to write: {error.strerror}; waiting up to {patience / 60:.0f} minutes.")
            elif time.monotonic() - since > patience:
                raise
        meanwhile()
        time.sleep(min(PAUSE, patience))


@contextmanager
def replacing(file: Path) -> Iterator[BinaryIO]:
    """A stream for a file's new content, which takes its place at the end of the block, whole or not at all.

    What stood there under that name, a link out of the folder for one, is replaced and never written through.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.{uuid4().hex[:8]}.partial")
    try:
        with partial.open("xb") as stream:
            yield stream
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
