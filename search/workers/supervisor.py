"""Supervision of workers: one for each free place, and another for each that dies."""

import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Protocol

from search.errors import StudyError
from search.storage.location import StudyLocation
from search.storage.owner import WorkerLease
from search.workers.worker import MAX_STARTUP_FAILURES, POLL_SECONDS, Event

FINISH_SECONDS = 30.0
"""Time in which the others must end once a worker found nothing left to do."""


class Engine(Protocol):
    """A place where workers run: processes of this machine, or tasks of a Ray cluster."""

    def room(self) -> int:
        """Return how many workers can run at the same time."""

    def start(self, index: int) -> None:
        """Start a worker."""

    def poll(self, seconds: float) -> list[Event]:
        """Return new events, after at most so many seconds. Raises a worker's error."""

    def close(self) -> None:
        """End all workers."""


def supervise(
    engine: Engine,
    location: StudyLocation,
    *,
    run: WorkerLease,
    tick: Callable[[], None],
    notify: Callable[[str], None],
) -> None:
    """Keep workers running until nothing is left to do.

    The first error ends them all: `FrostlineError` for what a user can mend, `RuntimeError` with the worker's traceback
    for a defect. Nothing stays in a new study's folder before a worker has found the task right.

    run: the lease that is held from then on. tick: called about twice a second; an exception from it ends all workers.
    notify: called once with each different line for the user.
    """
    workers: set[int] = set()
    begun: set[int] = set()
    shown: set[str] = set()
    failed_starts = 0
    ready = False
    first_finished: float | None = None  # when the first worker found nothing left to do
    with ExitStack() as stack:
        unwritten = stack.enter_context(ExitStack())
        if not location.folder.exists():  # decoded images and locks, when the data turn out wrong
            parents = [parent for parent in location.folder.parents if not parent.exists()]
            unwritten.callback(_remove, location.folder, parents)
        stack.enter_context(closing(engine))
        while first_finished is None or (workers and time.monotonic() < first_finished + FINISH_SECONDS):
            while first_finished is None and len(workers) < engine.room():
                index = min(set(range(len(workers) + 1)) - workers)
                engine.start(index)
                workers.add(index)
                begun.discard(index)
            for event in engine.poll(POLL_SECONDS):
                if event.kind == "ready" and not ready:
                    ready = True
                    unwritten.pop_all()
                    stack.enter_context(run.held(location))
                elif event.kind == "begun":
                    begun.add(event.index)
                elif event.kind == "note" and event.text not in shown:
                    shown.add(event.text)
                    notify(event.text)
                elif event.kind in ("finished", "died", "lost"):
                    workers.discard(event.index)
                if event.kind == "finished" and first_finished is None:
                    first_finished = time.monotonic()
                if event.kind == "died":
                    failed_starts = 0 if event.index in begun else failed_starts + 1
                    if failed_starts == MAX_STARTUP_FAILURES:
                        raise StudyError(
                            f"{failed_starts} workers in a row ended before their first trial, the last {event.text}: "
                            f"out of memory, or a crash in native code? See {location.folder / 'logs'}."
                        )
            tick()


def _remove(folder: Path, parents: list[Path]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # another study may be in one of them by now
        for parent in parents:
            parent.rmdir()
