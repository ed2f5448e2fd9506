"""Opening the relational database: its tables, its engine, its errors."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import BaseStorage
from optuna.storages._rdb.models import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from search.errors import StorageError
from search.storage.locks import locked
from search.storage.rdb import LeasedStorage, leased_storage
from search.storage.retry import reason_of, retrying
from search.storage.url import Database

_UNUSABLE_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EACCES)


def exists(database: Database) -> bool:
    """Return whether Optuna's tables are there and complete; writes nothing. Raises `StorageError`.

    `RDBStorage` completes the tables even if opened to read, and two processes that do so at once may fail. Only SQLite
    may open the file: to close it elsewhere frees this process's locks (https://www.sqlite.org/howtocorrupt.html, 2.2).
    """
    with storage_errors(database):
        if database.file is not None and not database.file.exists():
            return False
        engine = open_engine(database)
        try:
            with engine.connect() as connection:
                tables = set(sqlalchemy.inspect(connection).get_table_names())
                stamps = ("version_info", "alembic_version")
                return {"studies", *stamps} <= tables and all(
                    connection.execute(sqlalchemy.text(f"SELECT count(*) FROM {stamp}")).scalar() for stamp in stamps
                )
        finally:
            engine.dispose()


def open_storage(
    database: Database,
    *,
    create: bool = False,
    patience: float = 0.0,
    notify: Callable[[str], None] = print,
    meanwhile: Callable[[], None] = lambda: None,
) -> BaseStorage:
    """Open the database; `create` makes missing tables, one process at a time.

    A call that fails while the database is away, now or later, is tried again for `patience` seconds. `notify` and
    `meanwhile` are those of `retrying`. Raises `StorageError`.
    """
    if not create and not exists(database):
        raise StorageError(f"There is no database at {database.shown}.")

    def act() -> LeasedStorage:
        options: dict[str, Any] = {"patience": patience, "notify": notify, "meanwhile": meanwhile}
        if not create:
            return LeasedStorage(database, skip_table_creation=True, **options)
        engine = open_engine(database)
        try:
            with locked(engine, database, "tables"):  # without it most of several processes would fail
                _make_tables(engine)
                return LeasedStorage(database, **options)
        finally:
            engine.dispose()

    with storage_errors(database):
        backend = retrying(act, patience=patience, notify=notify, meanwhile=meanwhile)
        if database.file is not None:
            sqlalchemy.event.listen(backend.engine, "connect", _set_pragmas)
        backend.engine.dispose()  # opening takes two connections at once, later work takes one
    return optuna.storages.get_storage(backend)


@contextmanager
def connected(database: Database) -> Iterator[BaseStorage | None]:
    """Open the database for the block; yields None where there is none.

    Raises `StorageError`, also for what fails in the block.
    """
    with storage_errors(database):
        storage = open_storage(database) if exists(database) else None
        try:
            yield storage
        finally:
            if storage is not None:
                leased_storage(storage).engine.dispose()


def open_engine(database: Database) -> sqlalchemy.Engine:
    """Open connections to the database beside those of a storage."""
    return sqlalchemy.create_engine(database.url, **database.engine_options)


def _make_tables(engine: sqlalchemy.Engine) -> None:
    """Make Optuna's tables where they are missing: all of them with their indexes, or none.

    Optuna makes them one by one, in SQLite each in its own transaction, and skips those that exist. A process killed
    between a table and its index would leave a database in which study names are not unique.
    """
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")  # its driver begins none for a CREATE
        BaseModel.metadata.create_all(connection)


def _set_pragmas(connection: Any, record: Any) -> None:
    # WAL: readers do not block the writer. NORMAL: no fsync per commit; a power cut may cost the last moments, never
    # the file (https://www.sqlite.org/pragma.html#pragma_synchronous).
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


@contextmanager
def storage_errors(database: Database) -> Iterator[None]:
    """Turn the errors of SQLAlchemy and Optuna into a `StorageError` of one line."""
    try:
        yield
    except ImportError as error:
        what = error.name if isinstance(error, ModuleNotFoundError) else f"a driver ({error})"
        raise StorageError(f"--storage {database.shown!r} needs {what}: pip install 'frostline[postgres]'.") from None
    except OSError as error:
        if error.errno not in _UNUSABLE_PATH:
            raise
        raise StorageError(f"--storage {database.shown!r} fails: {error.strerror or error}.") from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise StorageError(f"--storage {database.shown!r} fails: {reason_of(error)}") from error
