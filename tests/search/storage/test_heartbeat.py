"""Who must be taken for dead: whose heartbeat stood still while somebody looked."""

import time

import optuna
import pytest

from search.storage import heartbeat
from search.storage.database import open_engine, open_storage
from search.storage.heartbeat import GRACE_SECONDS, HEARTBEAT_SECONDS, Heartbeat
from search.storage.url import Database


class Clock:
    """A time of day that only moves when it is told to."""

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
    """A running trial of the owner "other", and the URL of its database."""
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(study_name="s/n=20", storage=open_storage(Database.parse(url), create=True))
    trial = study.ask()
    trial.set_user_attr("owner", "other")
    return trial, url


def beats(url, trial, at):
    """The other's heartbeat, at that time of its own clock, whatever that shows."""
    engine = open_engine(Database.parse(url))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM trial_heartbeats WHERE trial_id = {trial._trial_id}")
        connection.exec_driver_sql(
            f"INSERT INTO trial_heartbeats (trial_id, heartbeat) VALUES ({trial._trial_id}, '{at}')"
        )
    engine.dispose()


@pytest.mark.parametrize("has_beaten", [True, False])
def test_an_owner_expires_after_the_grace_in_which_it_was_polled_for(trial, clock, has_beaten):
    trial, url = trial
    if has_beaten:
        beats(url, trial, "1970-01-01 00:00:00")
    mine = Heartbeat(open_engine(Database.parse(url)), owner="mine", study="s")
    begun = clock.now
    while clock.now - begun <= GRACE_SECONDS:
        mine.poll()
        assert not mine.has_expired(trial._trial_id, "other")
        clock.now += HEARTBEAT_SECONDS
    mine.poll()
    assert mine.has_expired(trial._trial_id, "other")
    assert not mine.has_expired(trial._trial_id, "another")


def test_whoever_beats_lives_whatever_its_clock_shows(trial, clock):
    trial, url = trial
    mine = Heartbeat(open_engine(Database.parse(url)), owner="mine", study="s")
    for year in (1970, 2100, 1980, 2099, 1990, 2098, 2000, 2097, 2010, 2096):
        beats(url, trial, f"{year}-01-01 00:00:00")
        mine.poll()
        assert not mine.has_expired(trial._trial_id, "other")
        clock.now += HEARTBEAT_SECONDS


@pytest.mark.parametrize("away", [2.5 * HEARTBEAT_SECONDS, GRACE_SECONDS, 100 * GRACE_SECONDS])
def test_nobody_dies_while_nobody_can_look(trial, clock, away):
    trial, url = trial
    mine = Heartbeat(open_engine(Database.parse(url)), owner="mine", study="s")
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


def test_a_trial_that_went_to_another_owner_is_watched_anew(trial, clock):
    trial, url = trial
    mine = Heartbeat(open_engine(Database.parse(url)), owner="mine", study="s")
    for _ in range(9):
        mine.poll()
        clock.now += HEARTBEAT_SECONDS
    assert mine.has_expired(trial._trial_id, "other")
    trial.set_user_attr("owner", "third")
    mine.poll()
    assert not mine.has_expired(trial._trial_id, "third")


def test_the_thread_beats_for_all_trials_of_its_owner(trial):
    trial, url = trial
    trial.set_user_attr("owner", "mine")
    engine = open_engine(Database.parse(url))

    def heartbeats():
        with engine.begin() as connection:
            return connection.exec_driver_sql("SELECT trial_id FROM trial_heartbeats").scalars().all()

    with Heartbeat(open_engine(Database.parse(url)), owner="mine", study="s") as mine:
        limit = time.monotonic() + 300
        while mine._polled < 0 and time.monotonic() < limit:
            time.sleep(0.01)
    assert heartbeats() == [trial._trial_id]


def test_what_others_store_in_the_same_database_stops_no_heart(trial, clock):
    trial, url = trial
    foreign = optuna.create_study(study_name="theirs", storage=open_storage(Database.parse(url)))
    for owner in ({"team": "x"}, ["a"], 7, None):
        foreign.ask().set_user_attr("owner", owner)
    ours = optuna.load_study(study_name="s/n=20", storage=open_storage(Database.parse(url)))
    ours.ask().set_user_attr("owner", {"team": "x"})
    mine = Heartbeat(open_engine(Database.parse(url)), owner="mine", study="s")
    mine.poll()
    assert [*mine._seen] == [(trial._trial_id, "other")]
