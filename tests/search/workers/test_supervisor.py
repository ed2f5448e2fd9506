"""Supervision: how many workers run, which are replaced, and what is left of a study that did not begin."""

import pytest

from search.errors import StudyError
from search.storage.location import StudyLocation
from search.storage.owner import WorkerLease
from search.workers import supervisor
from search.workers.supervisor import supervise
from search.workers.worker import Event


class Script:
    """An engine whose polls follow a script: (index, kind) of each event, an error to raise, or a new room."""

    def __init__(self, *polls, room=2):
        self.polls = list(polls)
        self.places = room
        self.started, self.closed = [], False

    def room(self):
        return self.places

    def start(self, index):
        self.started.append(index)

    def poll(self, seconds):
        events = self.polls.pop(0)
        if isinstance(events, Exception):
            raise events
        if isinstance(events, int):
            self.places, events = events, []
        return [Event(index=index, kind=kind, text=f"{kind} {index}") for index, kind in events]

    def close(self):
        self.closed = True


@pytest.fixture
def run(location):
    def run(engine, *, notify=lambda note: None, tick=lambda: None):
        supervise(engine, location, run=WorkerLease.new(), notify=notify, tick=tick)

    return run


READY = [(0, "ready"), (0, "begun"), (1, "begun")]


def test_a_dead_worker_is_replaced_under_its_index(run):
    engine = Script(READY, [(0, "died")], [(1, "lost")], [(0, "finished"), (1, "finished")])
    run(engine)
    assert engine.started == [0, 1, 0, 1]
    assert engine.closed


def test_workers_follow_the_room_there_is(run):
    engine = Script(READY, 3, [(1, "lost")], 2, [(0, "finished"), (2, "finished"), (1, "finished")])
    run(engine)
    assert engine.started == [0, 1, 2, 1]


def test_once_a_worker_found_nothing_left_none_is_started(run):
    engine = Script(READY, [(1, "finished")], [(0, "died")])
    run(engine)
    assert engine.started == [0, 1]


def test_workers_that_do_not_end_in_time_are_ended(run, monkeypatch):
    monkeypatch.setattr(supervisor, "FINISH_SECONDS", 0.0)
    engine = Script(READY, [(1, "finished")])
    run(engine)
    assert engine.closed


def test_workers_that_all_die_before_a_trial_end_the_study(run):
    engine = Script([(0, "ready")], *[[(0, "died")]] * 3)
    with pytest.raises(StudyError, match="3 workers in a row ended before their first trial, the last died 0: out of"):
        run(engine)
    assert engine.closed


def test_lost_machines_say_nothing_of_the_study(run):
    run(Script([(0, "ready")], *[[(0, "lost")]] * 5, [(0, "finished"), (1, "finished")]))


def test_each_note_is_shown_once(run):
    notes = []
    run(Script([(0, "note"), (0, "note")], [(0, "note")], [(0, "finished"), (1, "finished")]), notify=notes.append)
    assert notes == ["note 0"]


@pytest.mark.parametrize("ready", [False, True])
def test_new_folders_stay_only_once_the_task_is_right(tmp_path, ready):
    location = StudyLocation.of("new", out=tmp_path / "out" / "studies", storage=None)
    (tmp_path / "out").mkdir()

    class Writing(Script):
        def start(self, index):
            (location.folder / "cache").mkdir(parents=True, exist_ok=True)

    engine = Writing([(0, "ready")] if ready else [], StudyError("wrong data"))
    with pytest.raises(StudyError, match="wrong data"):
        supervise(engine, location, run=WorkerLease.new(), notify=print, tick=lambda: None)
    assert location.folder.exists() == ready
    assert [*(tmp_path / "out").iterdir()] == ([location.folder.parent] if ready else [])


def test_an_error_of_the_tick_ends_all_workers(run):
    engine = Script(READY)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(engine, tick=stop)
    assert engine.closed
