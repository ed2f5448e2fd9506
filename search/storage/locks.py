"""Locks between processes: a file on one host, an advisory lock of PostgreSQL between hosts."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from search.digest import digest
from search.errors import StorageError
from search.storage.url import MAX_IDLE_SECONDS, Database

POLL_SECONDS = 0.05

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def _lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def locks_folder(file: Path) -> Path:
    """Return the folder of a SQLite file's locks, the same for all links to it."""
    file = file.resolve()
    return file.with_name(f"{file.name}.locks")


@contextmanager
def file_lock(folder: Path, name: str) -> Iterator[None]:
    """Hold a lock between this host's processes; its file exists only while it is held."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.lock"
    descriptor = lock_file(file)
    try:
        yield
    finally:
        unlock_file(file, descriptor)


def lock_file(file: Path) -> int:
    """Lock a file, made if it is missing; returns the descriptor that holds the lock.

    The last holder may have unlinked the file, so a lock counts only if its file is still at that path.
    Raises `StorageError` on a file system without locks.
    """
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            while not _lock(descriptor):
                time.sleep(POLL_SECONDS)
        except OSError as error:
            reason = f"this file system locks no files ({error.strerror})"
            raise StorageError(f"{file.parent}: {reason}; name another place by --out or --storage.") from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(file)):
                return descriptor
        os.close(descriptor)


def unlock_file(file: Path, descriptor: int) -> None:
    """Remove a lock's file and free the lock; Windows keeps files that others have open."""
    with suppress(OSError):
        file.unlink()
    os.close(descriptor)


@contextmanager
def try_lock(file: Path) -> Iterator[bool]:
    """Lock an existing file for the block; yields False if another process holds the lock.

    Raises `FileNotFoundError`.
    """
    with file.open("r+b") as stream:
        yield _lock(stream.fileno())


@contextmanager
def locked(engine: Engine, database: Database, name: str) -> Iterator[Connection | None]:
    """Hold the lock of that name; yields PostgreSQL's connection that holds it, None for SQLite.

    It needs no clock: when its process ends, SQLite's host or PostgreSQL frees it at once.
    """
    if database.file is not None:
        with file_lock(locks_folder(database.file), name):
            yield None
        return
    key = int.from_bytes(bytes.fromhex(digest(name)[:16]), signed=True)
    with engine.connect() as connection:
        _limit_idle(connection, MAX_IDLE_SECONDS)
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": key})
        connection.commit()
        try:
            yield connection
        finally:
            try:
                connection.rollback()
                connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:key)"), {"key": key})
                _limit_idle(connection, 0)
                connection.commit()
            except SQLAlchemyError:
                connection.invalidate()  # it may still hold the lock


def _limit_idle(connection: Connection, seconds: int) -> None:
    # A process that is suspended while it holds the lock (a laptop's lid, a virtual machine) must not stop all others.
    # From pg_settings, because PostgreSQL before 14 does not know the setting.
    setting = "SELECT set_config(name, :limit, false) FROM pg_settings WHERE name = 'idle_session_timeout'"
    connection.execute(sqlalchemy.text(setting), {"limit": f"{seconds}s"})
