"""Safe reading and writing in folders to which others may write."""

import errno
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

MAX_UNPACKED_BYTES = 10**9
"""Size of an archive's content that is read in any case."""
MAX_UNPACKING_RATIO = 200
"""Largest ratio of content to file size above that; images stay below, zeros reach 1000."""


class BrokenArchive(Exception):
    """A file that is no `.npz` of plain arrays, or would fill the memory."""


def read_arrays(file: Path, *names: str) -> dict[str, NDArray[Any]]:
    """Read these arrays of an `.npz` file, or all. Unpickles nothing. Raises `BrokenArchive`."""
    try:
        # A pipe would block, a device never end.
        if not stat.S_ISREG(file.stat().st_mode):
            raise BrokenArchive("it is no plain file")
        # Opened here, because numpy leaves a file that is no archive open.
        with file.open("rb") as stream:
            if not zipfile.is_zipfile(stream):
                raise BrokenArchive("it is no archive (one array without a name is an .npy file)")
            check_size(stream)
            with np.load(stream, allow_pickle=False) as content:
                return {name: _array(content[name]) for name in names or content.files}
    except BrokenArchive:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise many kinds on a broken file
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BrokenArchive(" ".join(reason.split())[:200]) from error


def check_size(stream: BinaryIO) -> None:
    """Check the unpacked size of a zip file, and rewind its stream. Raises `BrokenArchive`."""
    packed = stream.seek(0, os.SEEK_END)
    with zipfile.ZipFile(stream) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > max(MAX_UNPACKED_BYTES, MAX_UNPACKING_RATIO * packed):
        raise BrokenArchive(f"its {packed / 1e6:.1f} MB unpack to {unpacked / 1e9:.1f} GB")
    stream.seek(0)


def _array(content: Any) -> NDArray[Any]:
    if not isinstance(content, np.ndarray):  # numpy returns the bytes of a member that is no array
        raise BrokenArchive("it holds something else than arrays")
    return content


def is_full(error: OSError) -> bool:
    """Return whether a file could not be written for lack of space."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_refused(error: OSError) -> bool:
    """Return whether a file could not be written: no space, no permission, place taken."""
    kinds = (errno.EROFS, errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ENOTDIR)
    return is_full(error) or error.errno in kinds


@contextmanager
def replacing(file: Path) -> Iterator[BinaryIO]:
    """Replace a file by what the block writes to a stream, whole or not.

    A link under that name, which may lead out of the folder, is replaced and never written through.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.{uuid4().hex[:8]}.partial")
    try:
        with partial.open("xb") as stream:
            yield stream
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
