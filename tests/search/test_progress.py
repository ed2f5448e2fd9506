"""What is shown of a study at work, whatever its database does meanwhile."""

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
def watched(tiny, monkeypatch):
    """A watch that looks all the time, and what it says."""
    monkeypatch.setattr(progress, "EVERY", 0.01)
    monkeypatch.setattr(progress, "SILENCE", 0.2)
    job, said = RunConfig.of("tiny.toml"), []
    return ProgressPoller(job, Progress(Console(quiet=True), job.sizes), said.append), said


def until(checks, found):
    limit = time.monotonic() + 300
    while not found():
        assert time.monotonic() < limit
        checks()
        time.sleep(0.01)


def test_a_database_that_hangs_is_told_of_once_and_holds_nobody_up(watched, monkeypatch):
    ours, said = watched
    answers = Event()

    def hang(url):
        answers.wait()
        raise StorageError("not made yet")

    monkeypatch.setattr(progress, "open_storage", hang)
    with ours:
        until(ours.check, lambda: said)
        for _ in range(50):
            ours.check()
        assert said == ["the database has not answered for 0 s."]
        answers.set()
        until(ours.check, lambda: len(said) == 2)
    assert said[1] == "the database answers again."


def test_what_the_thread_meets_its_owner_hears(watched, monkeypatch):
    ours, _ = watched
    monkeypatch.setattr(progress, "open_storage", lambda url: 1 / 0)
    with ours, pytest.raises(ZeroDivisionError):
        until(ours.check, lambda: False)


def test_who_stops_waits_for_no_answer(watched, monkeypatch):
    ours, _ = watched
    answers, late = Event(), []

    def hang(url):
        answers.wait(300)
        late.append(url)
        raise StorageError("too late")

    def is_stopped():
        with ours:
            time.sleep(0.1)
            raise KeyboardInterrupt

    monkeypatch.setattr(progress, "open_storage", hang)
    with pytest.raises(KeyboardInterrupt):
        is_stopped()
    assert late == []
    answers.set()


def test_a_database_file_that_goes_while_it_is_written_is_told_of(watched):
    ours, _ = watched
    ours.file.parent.mkdir(parents=True)
    ours.file.touch()
    ours.check()
    ours.file.unlink()
    with pytest.raises(StorageError, match=r"study.db was deleted or replaced while the study ran"):
        ours.check()
