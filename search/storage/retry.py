"""Retries while a database is away."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError, OperationalError, PendingRollbackError, SQLAlchemyError

from search.errors import StorageError

PATIENCE = 15 * 60.0
"""Seconds for which a process that trains waits for a database that is away."""


FIRST_PATIENCE = 60.0
"""Seconds for which a worker that begins waits for one that it has not seen yet: it may be the wrong one."""


T = TypeVar("T")


def patiently(
    act: Callable[[], T], *, patience: float, say: Callable[[str], None], meanwhile: Callable[[], None] = lambda: None
) -> T:
    """What `act` returns, tried again for `patience` seconds while the database is away, which `say` is told."""
    since: float | None = None
    while True:
        try:
            result = act()
        except (StorageInternalError, SQLAlchemyError, StorageError) as error:
            if patience == 0 or not is_away(error):
                raise
            if since is None:
                since = time.monotonic()
                minutes = f"{patience / 60:.0f} minutes" if patience > 60 else f"{patience:.0f} s"
                say(f"{_now()}: the database does not answer ({reason_of(error)}); waiting up to {minutes}.")
            elif time.monotonic() - since > patience:
                raise
            meanwhile()
            time.sleep(min(0.5 + (time.monotonic() - since) / 10, 5.0))
        else:
            if since is not None:
                say(f"{_now()}: the database answers again.")
            return result


def is_away(error: Exception) -> bool:
    """Whether it says that the database can't be had just now, and not that the statement is wrong."""
    cause: BaseException | None = error
    while isinstance(cause, StorageError | StorageInternalError):
        cause = cause.__cause__
    if isinstance(cause, PendingRollbackError):  # what comes after an error that was waited for
        return True
    if not isinstance(cause, DBAPIError):
        return False
    if type(cause.orig).__module__.startswith("sqlite3"):
        return isinstance(cause, OperationalError) and any(
            word in str(cause.orig) for word in ("locked", "full", "disk I/O")
        )
    return cause.connection_invalidated or isinstance(cause, OperationalError)


def reason_of(error: BaseException) -> str:
    """What the database's driver said, on one line of at most 200 characters."""
    cause = error
    while isinstance(cause, StorageError | StorageInternalError) and cause.__cause__ is not None:
        cause = cause.__cause__
    return " ".join(str(getattr(cause, "orig", None) or cause).split())[:200]


def _now() -> str:
    # To the minute, so that what several workers say at once is said once.
    return datetime.now(UTC).strftime("%H:%M UTC")
