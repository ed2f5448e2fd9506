"""Heartbeats: an owner expires when its heartbeat does not change while another process polls."""

import time

import optuna
import pytest

from search.storage import heartbeat
from search.storage.database import open_engine, open_storage
from search.storage.heartbeat import GRACE_SECONDS, HEARTBEAT_SECONDS, Heartbeat
from search.storage.url import Database


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(heartbeat, "time", clock)
    return clock


@pytest.fixture
def trial(tmp_path):
    """Make a running trial of the owner "other"; returns it and its database."""
    database = Database.at(tmp_path / "study.db")
    study = optuna.create_study(study_name="s/n=20", storage=open_storage(database, create=True))
    trial = study.ask()
    trial.set_user_attr("owner", "other")
    return trial, database


def beat(database, trial, at):
    """Store a heartbeat of the other owner, at that time of its own clock."""
    engine = open_engine(database)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM trial_heartbeats WHERE trial_id = {trial._trial_id}")
        connection.exec_driver_sql(
            f"INSERT INTO trial_heartbeats (trial_id, heartbeat) VALUES ({trial._trial_id}, '{at}')"
        )
    engine.dispose()


@pytest.mark.parametrize("has_beaten", [True, False])
def test_owner_expires_after_a_grace_of_polls(trial, clock, has_beaten):
    trial, database = trial
    if has_beaten:
        beat(database, trial, "1970-01-01 00:00:00")
    mine = Heartbeat(open_engine(database), owner="mine", study="s")
    begun = clock.now
    while clock.now - begun <= GRACE_SECONDS:
        mine.poll()
        assert not mine.has_expired(trial._trial_id, "other")
        clock.now += HEARTBEAT_SECONDS
    mine.poll()
    assert mine.has_expired(trial._trial_id, "other")
    assert not mine.has_expired(trial._trial_id, "another")


def test_owner_that_beats_lives_whatever_its_clock_shows(trial, clock):
    trial, database = trial
    mine = Heartbeat(open_engine(database), owner="mine", study="s")
    for year in (1970, 2100, 1980, 2099, 1990, 2098, 2000, 2097, 2010, 2096):
        beat(database, trial, f"{year}-01-01 00:00:00")
        mine.poll()
        assert not mine.has_expired(trial._trial_id, "other")
        clock.now += HEARTBEAT_SECONDS


@pytest.mark.parametrize("away", [2.5 * HEARTBEAT_SECONDS, GRACE_SECONDS, 100 * GRACE_SECONDS])
def test_no_owner_expires_while_nobody_polls(trial, clock, away):
    trial, database = trial
    mine = Heartbeat(open_engine(database), owner="mine", study="s")
    for _ in range(3):
        clock.now += HEARTBEAT_SECONDS
        mine.poll()
    clock.now += away  # the database is away, or this process is suspended
    mine.poll()
    assert not mine.has_expired(trial._trial_id, "other")
    begun = clock.now
    while clock.now - begun < GRACE_SECONDS:
        clock.now += HEARTBEAT_SECONDS
        mine.poll()
        assert not mine.has_expired(trial._trial_id, "other")
    clock.now += HEARTBEAT_SECONDS
    mine.poll()
    assert mine.has_expired(trial._trial_id, "other"), "a full grace later it is"


def test_new_owner_of_a_trial_has_a_new_grace(trial, clock):
    trial, database = trial
    mine = Heartbeat(open_engine(database), owner="mine", study="s")
    for _ in range(9):
        mine.poll()
        clock.now += HEARTBEAT_SECONDS
    assert mine.has_expired(trial._trial_id, "other")
    trial.set_user_attr("owner", "third")
    mine.poll()
    assert not mine.has_expired(trial._trial_id, "third")


def test_thread_beats_for_its_owners_trials(trial):
    trial, database = trial
    trial.set_user_attr("owner", "mine")
    engine = open_engine(database)

    def heartbeats():
        with engine.begin() as connection:
            return connection.exec_driver_sql("SELECT trial_id FROM trial_heartbeats").scalars().all()

    with Heartbeat(open_engine(database), owner="mine", study="s") as mine:
        limit = time.monotonic() + 300
        while mine._polled < 0 and time.monotonic() < limit:
            time.sleep(0.01)
    assert heartbeats() == [trial._trial_id]


def test_foreign_attributes_do_not_stop_the_heartbeat(trial, clock):
    trial, database = trial
    foreign = optuna.create_study(study_name="theirs", storage=open_storage(database))
    for owner in ({"team": "x"}, ["a"], 7, None):
        foreign.ask().set_user_attr("owner", owner)
    ours = optuna.load_study(study_name="s/n=20", storage=open_storage(database))
    ours.ask().set_user_attr("owner", {"team": "x"})
    mine = Heartbeat(open_engine(database), owner="mine", study="s")
    mine.poll()
    assert [*mine._seen] == [(trial._trial_id, "other")]
