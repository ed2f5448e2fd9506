"""The relational database: settings, and what a URL may say."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import BaseStorage
from optuna.storages._rdb.models import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from search.errors import StorageError
from search.storage.locks import FROZEN, locked
from search.storage.rdb import LeasedStorage, shared
from search.storage.retry import patiently, reason_of
from search.storage.url import check_url, driver_url, shown, sqlite_file


def check_parent(url: str, *, made_by_us: bool) -> None:
    """Raises `StorageError` for a URL that can't be: malformed, or a SQLite file in a folder that is not there."""
    check_url(url)
    file = sqlite_file(url)
    with storage_errors(url):
        there = file is None or made_by_us or file.absolute().parent.is_dir()
    if not there:
        raise StorageError(f"--storage {shown(url)!r}: there is no folder {str(Path(str(file)).parent)!r}.")


def exists(url: str) -> bool:
    """Whether there is a database of Optuna's at the URL, made to its end; writes nothing. Raises `StorageError`.

    To its end, because `RDBStorage` makes up what is missing even when it is opened to be read, and two
    processes that stamp the schema's version at once end in an IntegrityError. What the file is, SQLite must
    say: opening it beside SQLite and closing it again drops the locks that this process's connections hold,
    and with a kill at the wrong moment that left a malformed database (https://www.sqlite.org/howtocorrupt.html,
    section 2.2).
    """
    check_url(url)
    file = sqlite_file(url)
    with storage_errors(url):
        if file is not None and not file.exists():
            return False
        engine = open_engine(url)
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
    url: str, *, create: bool = False, patience: float = 0.0, say: Callable[[str], None] = print
) -> BaseStorage:
    """Open the database; `create` makes its tables where there are none, one process at a time.

    SQLite runs in WAL mode with a busy timeout of 60 s. What fails because the database is away, now or once it is
    open, is tried again for `patience` seconds, and `say` is told so. Raises `StorageError`.
    """
    if not create and not exists(url):
        raise StorageError(f"There is no database at {shown(url)}.")
    return _open(url, create=create, patience=patience, say=say)


def _open(url: str, *, create: bool = False, patience: float = 0.0, say: Callable[[str], None] = print) -> BaseStorage:
    file = sqlite_file(url)
    options: dict[str, Any] = {"file": file, "patience": patience, "say": say, "engine_kwargs": engine_options(url)}

    def open_it() -> LeasedStorage:
        if not create:
            return LeasedStorage(driver_url(url), skip_table_creation=True, **options)
        engine = open_engine(url)
        try:
            with locked(engine, file, "tables"):  # Optuna takes none: of several processes most would fail
                _make_tables(engine)
                return LeasedStorage(driver_url(url), **options)
        finally:
            engine.dispose()

    with storage_errors(url):
        backend = patiently(open_it, patience=patience, say=say)
        if file is not None:
            sqlalchemy.event.listen(backend.engine, "connect", _sqlite_pragmas)
        backend.engine.dispose()  # opening takes two connections at once, working one
    return optuna.storages.get_storage(backend)


@contextmanager
def connected(url: str) -> Iterator[BaseStorage | None]:
    """The database, until the block ends, and its connections with it; None where there is none.

    Raises `StorageError`, and turns what fails in the block into one.
    """
    with storage_errors(url):
        if not exists(url):
            yield None
            return
        storage = _open(url)
        try:
            yield storage
        finally:
            shared(storage).engine.dispose()


def _make_tables(engine: sqlalchemy.Engine) -> None:
    """Make Optuna's tables where they are missing: all of them with their indexes, or none.

    Optuna makes them one by one, in SQLite each in a transaction of its own, and passes over a table that is there. A
    process that was killed between a table and its index left a database for good in which study names are not unique.
    """
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")  # its driver begins none for a CREATE
        BaseModel.metadata.create_all(connection)


def open_engine(url: str) -> sqlalchemy.Engine:
    """Connections to the database beside those of a storage."""
    return sqlalchemy.create_engine(driver_url(url).replace("{{", "{").replace("}}", "}"), **engine_options(url))


def _sqlite_pragmas(connection: Any, record: Any) -> None:
    # WAL: readers do not block the writer. NORMAL: no fsync a commit; a power cut may cost the last moments,
    # never the file (https://www.sqlite.org/pragma.html#pragma_synchronous).
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def engine_options(url: str) -> dict[str, Any]:
    if check_url(url).get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": 60}}
    # Workers in several time zones must write one clock; REPEATABLE READ gives duplicate trial numbers. A host that
    # vanishes without a word is noticed in a minute, not in TCP's quarter of an hour, on both sides; so is a process
    # that is suspended in a transaction, with the locks that it holds.
    return {
        "pool_pre_ping": True,
        "pool_size": 2,
        "isolation_level": "READ COMMITTED",
        "connect_args": {
            "connect_timeout": 10,
            "options": "-c timezone=UTC -c statement_timeout=60000 "
            f"-c idle_in_transaction_session_timeout={FROZEN}s "
            "-c tcp_keepalives_idle=20 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3",
            "keepalives_idle": 20,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 60000,
        },
    }


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn what SQLAlchemy and Optuna raise when a database fails into a `StorageError` of one line."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise StorageError(f"--storage {shown(url)!r} needs {error.name}: pip install 'frostline[postgres]'.") from None
    except ImportError as error:
        raise StorageError(
            f"--storage {shown(url)!r} needs a driver: pip install 'frostline[postgres]' ({error})."
        ) from None
    except OSError as error:
        if error.errno not in (
            errno.ENAMETOOLONG,
            errno.ELOOP,
            errno.ENOTDIR,
            errno.EACCES,
        ):  # a path that can't be one
            raise
        raise StorageError(f"--storage {shown(url)!r} fails: {error.strerror or error}.") from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise StorageError(f"--storage {shown(url)!r} fails: {reason_of(error)}") from error
