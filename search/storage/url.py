"""Database URLs: parsing, checks, and display without passwords."""

import os
import re
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from search.errors import StorageError, without_passwords


def database_url(storage: str) -> str:
    """The URL itself, or that in the environment variable of "env:VARIABLE", where no list of processes shows it.

    Raises `StorageError`.
    """
    kind, _, variable = storage.partition(":")
    if kind != "env":
        return storage
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    url = os.environ.get(variable)
    if not url:
        raise StorageError(f"--storage {storage}: the environment variable {variable!r} is not set.")
    try:
        make_url(url)
    except (ArgumentError, ValueError):  # it may be the password alone, so it is not shown
        raise StorageError(f"--storage {storage}: what the variable holds is no database URL.") from None
    return url


def sqlite_url(file: Path) -> str:
    """The URL of a SQLite file."""
    from sqlalchemy.engine import URL

    # Optuna formats the URL as a template, so braces in a path must be doubled.
    try:
        url = URL.create("sqlite", database=str(file)).render_as_string(hide_password=False)
    except UnicodeEncodeError:
        raise StorageError(f"{file} can't hold a study's database: the name is not UTF-8.") from None
    return url.replace("{", "{{").replace("}", "}}")


def sqlite_file(url: str) -> Path | None:
    """The database file of a SQLite URL, else None. Raises SQLAlchemy's `ArgumentError` for what is no URL."""
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return None
    return Path(str(parsed.database).replace("{{", "{").replace("}}", "}"))


ALLOWED = "sqlite:///path/to/study.db, postgresql+psycopg://user@host/database, or env:VARIABLE that holds one"


DRIVERS = ("sqlite", "postgresql", "postgresql+psycopg")


def check_url(url: str) -> URL:
    """The URL, parsed. Raises `StorageError` where it is malformed or of another kind of database."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # What has an @ may hold a password, and is no file.
        hint = f"; for a file write {sqlite_url(Path(url))}" if url and not re.search("://|@", url) else ""
        raise StorageError(f"--storage {shown(url)!r} is not a database URL{hint}; allowed: {ALLOWED}.") from None
    if parsed.drivername not in DRIVERS or (parsed.drivername == "sqlite" and not _is_file(parsed)):
        raise StorageError(f"--storage {shown(parsed)!r} can't hold a study; allowed: {ALLOWED}.")
    if re.search("[{}]", url.replace("{{", "").replace("}}", "")):  # Optuna formats the URL as a template
        raise StorageError(f"--storage {shown(parsed)!r}: write {{ as {{{{ and }} as }}}}.")
    return parsed


def _is_file(url: URL) -> bool:
    """Whether a SQLite URL names a file and nothing else: its other forms open what no lock of ours lies beside."""
    named = url.database not in (None, "", ":memory:") and not str(url.database).startswith("file:")
    return named and not (url.host or url.username or url.password or url.query)


def shown(url: URL | str) -> str:
    """A URL for people: without its passwords. What names a variable ("env:VARIABLE") stays what it is."""
    if isinstance(url, str) and url.startswith("env:"):
        return url
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # malformed, but there may be a password in it
        return without_passwords(str(url))
    secrets = {key: "***" for key in parsed.query if "pass" in key}
    return parsed.update_query_dict(secrets).render_as_string(hide_password=True)


def driver_url(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1)
