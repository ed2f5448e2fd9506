"""A study's database, parsed once from the URL that names it."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from search.errors import StorageError, without_passwords

ALLOWED = "sqlite:///path/to/study.db, postgresql+psycopg://user@host/database, or env:VARIABLE that holds one"
DRIVERS = ("sqlite", "postgresql", "postgresql+psycopg")
MAX_IDLE_SECONDS = 60
"""Time after which PostgreSQL ends a silent connection that holds locks: its process is suspended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A study's database.

    url: the URL for SQLAlchemy, with its driver; it may hold a password.
    shown: the URL for people, without passwords.
    file: the SQLite file; None for PostgreSQL.
    """

    url: str = field(repr=False)
    shown: str
    file: Path | None

    @classmethod
    def parse(cls, storage: str) -> Self:
        """Parse a URL, or "env:VARIABLE": the variable holds one, which no list of processes shows.

        Raises `StorageError` for a malformed URL, another kind of database, or a SQLite file in no folder.
        """
        kind, _, variable = storage.partition(":")
        text = os.environ.get(variable, "") if kind == "env" else storage
        if kind == "env" and not text:
            raise StorageError(f"--storage {storage}: the environment variable {variable!r} is not set.")
        shown = redacted(text)
        try:
            url = make_url(text)
        except (ArgumentError, ValueError):
            if kind == "env":  # the variable may hold the password alone
                raise StorageError(f"--storage {storage}: the variable holds no database URL.") from None
            # Text with an @ may hold a password, and is no file.
            hint = f"; for a file write {cls.at(Path(text)).url}" if text and not re.search("://|@", text) else ""
            raise StorageError(f"--storage {shown!r} is not a database URL{hint}; allowed: {ALLOWED}.") from None
        is_sqlite = url.drivername == "sqlite"
        if url.drivername not in DRIVERS or (is_sqlite and not _is_file(url)):
            raise StorageError(f"--storage {shown!r} can't hold a study; allowed: {ALLOWED}.")
        file = Path(str(url.database)) if is_sqlite else None
        if file is not None and not os.path.isdir(file.absolute().parent):
            raise StorageError(f"--storage {shown!r}: there is no folder {str(file.parent)!r}.")
        return cls(url=text.replace("postgresql://", "postgresql+psycopg://", 1), shown=shown, file=file)

    @classmethod
    def at(cls, file: Path) -> Self:
        """Return the database in a SQLite file, whose folder may be missing. Raises `StorageError`."""
        try:
            url = URL.create("sqlite", database=str(file)).render_as_string(hide_password=False)
        except UnicodeEncodeError:
            raise StorageError(f"{file} can't hold a study's database: the name is not UTF-8.") from None
        return cls(url=url, shown=url, file=file)

    @property
    def engine_options(self) -> dict[str, Any]:
        """Arguments of `sqlalchemy.create_engine`."""
        if self.file is not None:
            return {"connect_args": {"timeout": 60}}
        # One clock for workers in several time zones; REPEATABLE READ gives duplicate trial numbers. Both sides notice
        # a lost host, or a process that is suspended in a transaction, within a minute, where TCP takes 15.
        limits = f"-c statement_timeout=60000 -c idle_in_transaction_session_timeout={MAX_IDLE_SECONDS}s"
        probes = "-c tcp_keepalives_idle=20 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
        connect: dict[str, Any] = {"keepalives_idle": 20, "keepalives_interval": 10, "keepalives_count": 3}
        connect |= {"tcp_user_timeout": 60000, "connect_timeout": 10, "options": f"-c timezone=UTC {limits} {probes}"}
        return {"pool_pre_ping": True, "pool_size": 2, "isolation_level": "READ COMMITTED", "connect_args": connect}


def redacted(storage: str) -> str:
    """Return a URL without its passwords; "env:VARIABLE" stays as it is."""
    if storage.startswith("env:"):
        return storage
    try:
        url = make_url(storage)
    except (ArgumentError, ValueError):  # malformed, but it may hold a password
        return without_passwords(storage)
    secrets = {key: "***" for key in url.query if "pass" in key}
    return url.update_query_dict(secrets).render_as_string(hide_password=True)


def _is_file(url: URL) -> bool:
    """Return whether a SQLite URL names a plain file, beside which its locks can be."""
    named = url.database not in (None, "", ":memory:") and not str(url.database).startswith("file:")
    return named and not (url.host or url.username or url.password or url.query)
