"""A database that goes away, and what may be waited for."""

import sqlite3

import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError, ProgrammingError

from search.errors import StorageError
from search.storage import retry
from search.storage.retry import is_away, retrying


class Clock:
    """A clock that goes on when somebody sleeps."""

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
def test_what_is_away_is_waited_for_and_told_of(clock, away):
    said, ticks = [], []

    def act():
        if clock.now <= away:
            raise gone()
        return "there"

    assert retrying(act, patience=300, notify=said.append, meanwhile=lambda: ticks.append(clock.now)) == "there"
    assert [text[11:] for text in said] == [
        "the database does not answer (server closed the connection); waiting up to 5 minutes.",
        "resumed.",
    ]
    pauses = [after - before for before, after in zip([0.0, *ticks], [*ticks, clock.now], strict=True)]
    assert max(pauses) <= 5.0, "the deadline on progress hears of it often"


def test_patience_has_an_end(clock):
    said = []
    with pytest.raises(OperationalError):
        retrying(lambda: (_ for _ in ()).throw(gone()), patience=300, notify=said.append)
    assert 300 < clock.now < 310
    assert len(said) == 1


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
def test_only_what_may_come_back_is_waited_for(error, away):
    assert is_away(error) is away
