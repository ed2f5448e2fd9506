"""Locks between processes: a file on one host, an advisory lock of PostgreSQL between hosts."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

import sqlalchemy
from filelock import FileLock
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError


def locks_folder(file: Path) -> Path:
    """Where the locks of a SQLite file lie: beside it, so that all who use it meet there, by whatever link."""
    file = file.resolve()
    return file.with_name(f"{file.name}.locks")


def file_lock(folder: Path, name: str) -> FileLock:
    """A lock between the processes of this host, free again when its holder dies."""
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{name}.lock")


FROZEN = 60
"""Seconds after which PostgreSQL ends a connection that holds the lock and says nothing: its process is suspended."""


@contextmanager
def locked(engine: Engine, file: Path | None, name: str) -> Iterator[Connection | None]:
    """The lock of that name, held in the database; yields PostgreSQL's connection that holds it.

    It needs no clock: when its process ends, SQLite's host or PostgreSQL gives it back at once.
    """
    if file is not None:
        with file_lock(locks_folder(file), name):
            yield None
        return
    key = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), signed=True)
    with engine.connect() as connection:
        _limit(connection, FROZEN)
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": key})
        connection.commit()
        try:
            yield connection
        finally:
            try:
                connection.rollback()
                connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:key)"), {"key": key})
                _limit(connection, 0)
                connection.commit()
            except SQLAlchemyError:
                connection.invalidate()  # it may hold the lock still: not to be used again


def _limit(connection: Connection, seconds: int) -> None:
    # A process that is suspended with the lock in hand (a laptop's lid, a virtual machine) must not stop all others.
    # From pg_settings, because PostgreSQL before 14 does not know it.
    setting = "SELECT set_config(name, :limit, false) FROM pg_settings WHERE name = 'idle_session_timeout'"
    connection.execute(sqlalchemy.text(setting), {"limit": f"{seconds}s"})
