"""Retries: which errors are waited for, how often, and for how long."""

import errno
import os
import sqlite3

import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError, ProgrammingError

from search.errors import StorageError
from search.storage import retry
from search.storage.retry import is_away, retrying


class Clock:
    """A clock that only sleep moves."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(retry, "time", clock)
    return clock


def gone(message="server closed the connection"):
    return OperationalError("SELECT 1", {}, ConnectionError(message))


def wrapped(error, kind):
    try:
        raise kind("it fails") from error
    except kind as outer:
        return outer


@pytest.mark.parametrize("away", [0.0, 1.0, 200.0, 290.0])
def test_retrying_waits_for_a_database_and_notifies(clock, away):
    lines, ticks = [], []

    def act():
        if clock.now <= away:
            raise gone()
        return "there"

    assert retrying(act, patience=300, notify=lines.append, meanwhile=lambda: ticks.append(clock.now)) == "there"
    assert [text[11:] for text in lines] == [
        "the database does not answer (server closed the connection); waiting up to 5 minutes.",
        "resumed.",
    ]
    pauses = [after - before for before, after in zip([0.0, *ticks], [*ticks, clock.now], strict=True)]
    assert max(pauses) <= 5.0, "the watchdog is kicked often enough"


def test_retrying_raises_when_its_patience_ends(clock):
    lines = []
    with pytest.raises(OperationalError):
        retrying(lambda: (_ for _ in ()).throw(gone()), patience=300, notify=lines.append)
    assert 300 < clock.now < 310
    assert len(lines) == 1


def test_retrying_waits_for_room_on_a_full_disk(clock):
    lines = []

    def act():
        if clock.now < 60:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return "written"

    assert retrying(act, patience=300, notify=lines.append) == "written"
    assert "no room to write (No space left on device); waiting up to 5 minutes." in lines[0]


def test_retrying_raises_another_error_at_once(clock):
    with pytest.raises(PermissionError):
        retrying(lambda: (_ for _ in ()).throw(PermissionError()), patience=300, notify=print)
    assert clock.now == 0


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (gone(), True),
        (wrapped(gone(), StorageInternalError), True),
        (wrapped(gone(), StorageError), True),
        (wrapped(wrapped(gone(), StorageInternalError), StorageError), True),
        (OperationalError("x", {}, sqlite3.OperationalError("database is locked")), True),
        (OperationalError("x", {}, sqlite3.OperationalError("database or disk is full")), True),
        (OperationalError("x", {}, sqlite3.OperationalError("no such table: trials")), False),
        (ProgrammingError("x", {}, Exception("relation does not exist")), False),
        (StorageError("there is no database"), False),
        (ValueError("ours"), False),
    ],
)
def test_only_errors_that_pass_count_as_away(error, away):
    assert is_away(error) is away
