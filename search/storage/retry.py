"""Retries while a database is away, or a disk is full."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError, OperationalError, PendingRollbackError, SQLAlchemyError

from search.errors import StorageError
from search.files import is_full

PATIENCE_SECONDS = 15 * 60.0
"""Time for which a process that trains waits for its database or its disk."""
FIRST_PATIENCE_SECONDS = 60.0
"""Time for which a worker waits for a database it has not reached before."""

T = TypeVar("T")


def retrying(
    act: Callable[[], T],
    *,
    patience: float,
    notify: Callable[[str], None],
    meanwhile: Callable[[], None] = lambda: None,
) -> T:
    """Return what `act` returns, tried again while the database is away or the disk full.

    patience: seconds after which the error is raised.
    notify: called with a line for the user when the wait begins and when it ends.
    meanwhile: called between two attempts.
    """
    since: float | None = None
    while True:
        try:
            result = act()
        except (StorageInternalError, SQLAlchemyError, StorageError, OSError) as error:
            trouble = _trouble(error)
            if patience == 0 or trouble is None:
                raise
            if since is None:
                since = time.monotonic()
                limit = f"{patience / 60:.0f} minutes" if patience > 60 else f"{patience:.0f} s"
                notify(f"{_now()}: {trouble}; waiting up to {limit}.")
            elif time.monotonic() - since > patience:
                raise
            meanwhile()
            time.sleep(min(0.5 + (time.monotonic() - since) / 10, 5.0))
        else:
            if since is not None:
                notify(f"{_now()}: resumed.")
            return result


def _trouble(error: Exception) -> str | None:
    """Return what an error has to wait for, None if it is of another kind."""
    if isinstance(error, OSError):
        return f"no room to write ({error.strerror})" if is_full(error) else None
    return f"the database does not answer ({reason_of(error)})" if is_away(error) else None


def is_away(error: Exception) -> bool:
    """Return whether the database is out of reach, and not the statement wrong."""
    cause = _cause(error)
    if isinstance(cause, PendingRollbackError):  # follows an error that was waited for
        return True
    if not isinstance(cause, DBAPIError):
        return False
    if type(cause.orig).__module__.startswith("sqlite3"):
        passing = any(word in str(cause.orig) for word in ("locked", "full", "disk I/O"))
        return isinstance(cause, OperationalError) and passing
    return cause.connection_invalidated or isinstance(cause, OperationalError)


def reason_of(error: BaseException) -> str:
    """Return the message of the database's driver, on one line of at most 200 characters."""
    cause = _cause(error)
    return " ".join(str(getattr(cause, "orig", None) or cause).split())[:200]


def _cause(error: BaseException) -> BaseException:
    while isinstance(error, StorageError | StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _now() -> str:
    # To the minute, so that the same message from several workers is printed once.
    return datetime.now(UTC).strftime("%H:%M UTC")
