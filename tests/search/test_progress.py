"""The display of a running study, whatever its database does meanwhile."""

import time
from threading import Event

import pytest
from rich.console import Console

from search import progress
from search.errors import StorageError
from search.progress import ProgressPoller
from search.report.terminal import Progress
from search.run_config import RunConfig


@pytest.fixture
def notes():
    return []


@pytest.fixture
def poller(tiny, monkeypatch, notes):
    """Make a poller that reads all the time, and notes what it shows the user."""
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(progress, "SILENCE_SECONDS", 0.2)
    config = RunConfig.of("tiny.toml")
    display = Progress(Console(quiet=True), config.sizes)
    return ProgressPoller(config.location, config.spec, display, notify=notes.append)


@pytest.fixture
def answers(monkeypatch):
    """Make the database hang until this event is set."""
    event = Event()

    def hang(url):
        event.wait()
        raise StorageError("not made yet")

    monkeypatch.setattr(progress, "open_storage", hang)
    yield event
    event.set()


def until(check, found):
    limit = time.monotonic() + 60
    while not found():
        assert time.monotonic() < limit
        check()
        time.sleep(0.01)


def test_poller_notes_a_silent_database_once(poller, notes, answers):
    with poller:
        until(poller.check, lambda: notes)
        for _ in range(50):
            poller.check()
        assert notes == ["the database has not answered for 0 s."]
        answers.set()
        until(poller.check, lambda: len(notes) == 2)
    assert notes[1] == "the database answers again."


def test_poller_check_raises_the_error_of_its_thread(poller, monkeypatch):
    monkeypatch.setattr(progress, "open_storage", lambda url: 1 / 0)
    with poller, pytest.raises(ZeroDivisionError):
        until(poller.check, lambda: False)


def test_poller_exit_on_an_error_waits_for_no_answer(poller, answers):
    def interrupted():
        with poller:
            time.sleep(0.1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not answers.is_set()
    assert poller._thread.is_alive()


def test_poller_reports_a_database_file_that_is_gone(poller):
    poller.file.parent.mkdir(parents=True)
    poller.file.touch()
    poller.check()
    poller.file.unlink()
    with pytest.raises(StorageError, match=r"study.db was deleted or replaced while the study ran"):
        poller.check()
