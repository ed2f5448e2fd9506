"""The folder that a study's processes share for their blocks of activations, and who may write there.

<key>.act             a block
<key>.<8>.partial     one that is being written, or that a killed process left
<key>.lock  room.lock who makes that block; who counts and frees bytes
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from search.activations.block_file import DiskFull, Layout, Values, refused, write

TICK = 1.0
"""Seconds after which who waits for a block that another process makes says that it waits."""
SPARE = 256 * 2**20
"""Bytes of a disk that are left free: for the study's database and results, without which nothing goes on."""


@dataclass(frozen=True, slots=True)
class BlockFolder:
    """The blocks in a folder, `room` bytes of them at most. What else lies there is left alone."""

    path: Path
    room: int

    def file(self, key: str) -> Path:
        return self.path / f"{key}.act"

    def touch(self, key: str) -> None:
        """Note that the block is used: the least recently used goes first."""
        with suppress(OSError):
            os.utime(self.file(key))

    def remove(self, key: str) -> None:
        file = self.file(key)
        with suppress(OSError):
            shutil.rmtree(file) if file.is_dir() else file.unlink()

    def tidy(self) -> None:
        """Remove what killed processes left, and what is more than the room."""
        with suppress(DiskFull), refused():
            if self.path.is_dir():
                with self._lock("room"):
                    self._make_room(0)

    @contextmanager
    def claimed(self, key: str, *, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the right to make that block, as long as this process lives; waits for who has it. Raises `DiskFull`."""
        lock = self._lock(key)
        with refused():
            self.path.mkdir(parents=True, exist_ok=True)
            while not lock.is_locked:
                try:
                    lock.acquire(timeout=TICK)
                except Timeout:
                    waiting()
        try:
            yield
        finally:
            _drop(lock)

    def put(self, key: str, chunks: Iterable[Values], layout: Layout) -> None:
        """Write the block's file, under a claim on its key; the least recently used make room for it.

        Nobody sees it before it is whole. Raises `DiskFull`; what `chunks` raises goes through. Nothing is left then.
        """
        partial = self.path / f"{key}.{uuid4().hex[:8]}.partial"
        size = layout.offsets[-1]
        try:
            with refused(), self._lock("room"):
                self._make_room(size)
                partial.touch()
                os.truncate(partial, size)  # so that others count it
            write(partial, chunks, layout)
            with refused():
                partial.replace(self.file(key))
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise

    def _make_room(self, size: int) -> None:
        partials = [file for file in self.path.glob("*.partial") if not self._is_left(file)]
        being_written = sum(size for _, size, _ in _known(partials))
        blocks = sorted(_known(self.path.glob("*.act")))
        used = being_written + sum(size for _, size, _ in blocks)
        room = min(self.room, used + shutil.disk_usage(self.path).free - SPARE)
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
        """Whether who wrote it is gone; it goes too then."""
        lock = self._lock(partial.name.split(".")[0])
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        partial.unlink(missing_ok=True)
        _drop(lock)
        return True


def _known(files: Iterable[Path]) -> Iterator[tuple[int, int, Path]]:
    """When each was used last, its bytes, and itself."""
    for file in files:
        with suppress(FileNotFoundError):  # it was removed or renamed meanwhile
            if not file.is_file():
                continue
            yield (status := file.stat()).st_mtime_ns, status.st_size, file


def _drop(lock: FileLock) -> None:
    # Removed while it is held: who waits for it notices, and begins anew.
    with suppress(OSError):
        Path(lock.lock_file).unlink()
    lock.release()
