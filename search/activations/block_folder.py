"""A folder of blocks of activations that a study's processes share.

- `<key>.npy`: a block
- `<key>.npy.<8>.partial`: a block that is being written, or that a killed process left
- `<key>.lock`, `room.lock`: held by the process that makes the block, or that counts and frees bytes
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path

from filelock import FileLock, Timeout

from search.array_file import ArrayWriter, Bytes, size_of
from search.files import replacing

WAIT_SECONDS = 1.0
"""Seconds of waiting for another process's block between two calls of `waiting`."""
MIN_FREE_BYTES = 256 * 2**20
"""Bytes of a disk that are left free for the study's database and results."""


class DiskFull(Exception):
    """A disk that takes no such block: full, or not to be written or locked."""


@dataclass(frozen=True, slots=True)
class BlockFolder:
    """Blocks in a folder, at most `room` bytes together. Other files are left alone."""

    path: Path
    room: int

    def file(self, key: str) -> Path:
        return self.path / f"{key}.npy"

    def touch(self, key: str) -> None:
        """Note that the block is used: the least recently used goes first."""
        with suppress(OSError):
            os.utime(self.file(key))

    def remove(self, key: str) -> None:
        """Remove a block, or whatever else has its name."""
        file = self.file(key)
        with suppress(OSError):
            shutil.rmtree(file) if file.is_dir() else file.unlink()

    def evict(self) -> None:
        """Remove what killed processes left, and the least recently used blocks beyond the room."""
        with suppress(DiskFull), refused():
            if self.path.is_dir():
                with self._lock("room"):
                    self._make_room(0)

    @contextmanager
    def reserve(self, key: str, *, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the right to make that block as long as this process lives.

        Another holder is waited for. Raises `DiskFull`.
        """
        lock = self._lock(key)
        with refused():
            self.path.mkdir(parents=True, exist_ok=True)
            while not lock.is_locked:
                try:
                    lock.acquire(timeout=WAIT_SECONDS)
                except Timeout:
                    waiting()
        try:
            yield
        finally:
            _drop(lock)

    def write(self, key: str, shape: tuple[int, ...], pieces: Iterable[Bytes]) -> None:
        """Write a reserved block's file, which appears whole; the least recently used make room.

        Raises `DiskFull`; errors of `pieces` go through. Nothing is left then.
        """
        with ExitStack() as stack:
            with refused():
                stream = stack.enter_context(replacing(self.file(key)))
                with self._lock("room"):
                    self._make_room(size_of(shape))
                    os.truncate(stream.fileno(), size_of(shape))  # so that others count it
                writer = ArrayWriter(stream, shape)
            for piece in pieces:
                with refused():
                    writer.write(piece)
            with refused():
                writer.finish()
                stack.close()

    def _make_room(self, size: int) -> None:
        partials = [file for file in self.path.glob("*.partial") if not self._is_left(file)]
        being_written = sum(size for _, size, _ in _known(partials))
        blocks = sorted(_known(self.path.glob("*.npy")))
        used = being_written + sum(size for _, size, _ in blocks)
        room = min(self.room, used + shutil.disk_usage(self.path).free - MIN_FREE_BYTES)
        if size and being_written + size > room:
            raise OSError(ENOSPC, "all but a reserve of it is full")
        for _, freed, file in blocks:
            if used + size <= room:
                break
            file.unlink(missing_ok=True)
            used -= freed

    def _lock(self, name: str) -> FileLock:
        return FileLock(self.path / f"{name}.lock")

    def _is_left(self, partial: Path) -> bool:
        """Return whether its writer is gone; the file is removed then."""
        lock = self._lock(partial.name.split(".")[0])
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        partial.unlink(missing_ok=True)
        _drop(lock)
        return True


@contextmanager
def refused() -> Iterator[None]:
    """Raise `DiskFull` for what the disk refuses."""
    try:
        yield
    except (OSError, NotImplementedError) as error:  # the latter is filelock's, where there are no locks
        raise DiskFull(getattr(error, "strerror", None) or str(error)) from error


def _known(files: Iterable[Path]) -> Iterator[tuple[int, int, Path]]:
    """Yield when each was used last, its bytes, and itself."""
    for file in files:
        with suppress(FileNotFoundError):  # it was removed or renamed meanwhile
            if not file.is_file():
                continue
            yield (status := file.stat()).st_mtime_ns, status.st_size, file


def _drop(lock: FileLock) -> None:
    # Removed while it is held: a process that waits for it notices, and starts over.
    with suppress(OSError):
        Path(lock.lock_file).unlink()
    lock.release()
