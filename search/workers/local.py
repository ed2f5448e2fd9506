"""Local worker processes: long-lived, each loads torch and the data once, and dies with its parent."""

import io
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from ctypes import CDLL
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from search.errors import FrostlineError, StorageError, StudyError
from search.files import is_refused
from search.spec.study_spec import StudySpec
from search.storage.database import storage_errors
from search.storage.location import StudyLocation
from search.storage.owner import WorkerLease
from search.workers.bench import load_task
from search.workers.worker import FAILURES, TICK, work

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl(2): the signal that a process gets when its parent dies."""


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    ready: bool = False
    has_begun: bool = False
    """Whether it has had a trial in hand."""


def run_workers(
    spec: StudySpec,
    location: StudyLocation,
    sizes: list[int],
    *,
    count: int,
    tick: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = print,
) -> None:
    """Run `count` workers until nothing is left to do at these sizes; one that dies is replaced.

    Each checks the task before anything is written, and the first error ends them all: `FrostlineError` for
    what a user got wrong, `RuntimeError` with the worker's traceback for what we did. `tick` is called about
    twice a second, and what it raises ends them too; `say` with what there is to tell of the data, once for all.
    """
    context = multiprocessing.get_context("spawn")
    workers: list[_Worker] = []
    stillborn = 0
    said: set[str] = set()
    run = WorkerLease.new()

    def start(index: int) -> _Worker:
        ours, theirs = context.Pipe(duplex=False)
        arguments = (theirs, spec.model_dump(mode="json", exclude_unset=True), location, sizes, index, run.token)
        process = context.Process(target=_work, args=arguments, name=f"frostline-worker-{index}", daemon=True)
        with _without_interrupts():  # a Ctrl-C while it imports would print what it was at
            process.start()
        theirs.close()
        return _Worker(process, ours)

    with ExitStack() as at_work:
        unwritten = at_work.enter_context(ExitStack())
        if not location.folder.exists():  # what a worker had decoded before it found the data wrong
            unwritten.callback(shutil.rmtree, location.folder, ignore_errors=True)
        at_work.callback(_end, workers)
        workers += [start(index) for index in range(count)]
        present = False
        while True:
            codes = [worker.process.exitcode for worker in workers]
            for index, (worker, code) in enumerate(zip(list(workers), codes, strict=True)):
                # After the exit code, so that nothing a worker said before it ended is missed.
                for note in _listen(worker):
                    if note not in said:
                        said.add(note)
                        say(note)
                if code not in (None, 0):
                    stillborn = 0 if worker.has_begun else stillborn + 1
                    if stillborn == FAILURES:
                        raise StudyError(
                            f"{FAILURES} processes in a row ended before their first trial, the last {_ending(code)}: "
                            f"out of memory, or a crash in native code? {location.folder / 'logs'} may tell."
                        )
                    workers[index] = start(index)
            # Not before a worker has found the task right: until then nothing is written.
            if not present and any(worker.ready for worker in workers):
                unwritten.pop_all()
                at_work.enter_context(run.held(location))
                present = True
            tick()
            if all(code == 0 for code in codes):
                return
            open_ends = [worker.connection for worker in workers if not worker.connection.closed]
            wait([*open_ends, *(worker.process.sentinel for worker in workers if worker.process.is_alive())], TICK)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """What is started in the block begins with SIGINT blocked."""
    resource_tracker.ensure_running()  # else `start` does that, and it unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.process.kill()
    for worker in workers:
        worker.process.join()


def _listen(worker: _Worker) -> list[str]:
    notes: list[str] = []
    while not worker.connection.closed and worker.connection.poll():
        try:
            kind, content = worker.connection.recv()
        except EOFError:
            worker.connection.close()
            break
        if kind == "ready":
            worker.ready = True
            notes += content
        elif kind == "begun":
            worker.has_begun = True
        elif kind == "error":
            raise content
        else:
            raise RuntimeError(f"A worker crashed:\n{content}")
    return notes


def _work(
    connection: Connection,
    content: dict[str, Any],
    location: StudyLocation,
    sizes: list[int],
    index: int,
    run: str,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # Lightning ends a fit at SIGTERM with exit code 0, as if it were done; its handler calls ours.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with suppress(AttributeError, OSError):  # on Linux also where Python hangs with its lock in hand
        CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    _redirect(os.devnull)
    try:
        spec = StudySpec.from_dict(content, where="the study file")
        task = load_task(spec, location)
        _redirect(_log_file(location, index))
        connection.send(("ready", task.notes))
        with storage_errors(location.database):
            work(
                spec,
                location,
                sizes,
                task,
                run=run,
                say=lambda note: connection.send(("ready", [note])),
                begun=lambda: connection.send(("begun", None)),
            )
    except FrostlineError as error:
        connection.send(("error", error))
    except OSError as error:
        if not is_refused(error):
            connection.send(("crash", traceback.format_exc()))
            raise
        traceback.print_exc()
        connection.send(
            ("error", StudyError(f"{error.filename or location.folder}: can't write there: {error.strerror}."))
        )
    except BaseException:
        connection.send(("crash", traceback.format_exc()))
        raise


def _log_file(location: StudyLocation, index: int) -> Path:
    file = location.folder / "logs" / f"worker-{index}.log"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    except OSError as error:
        raise StorageError(f"{location.folder}: can't write there: {error.strerror}.") from None
    return file


def _ending(code: int) -> str:
    return f"with exit code {code}" if code > 0 else f"by signal {-code} ({signal.strsignal(-code)})"


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _redirect(target: str | os.PathLike[str]) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    sys.stdout = sys.stderr = io.TextIOWrapper(_Log(1, "w", closefd=False), write_through=True)


class _Log(io.FileIO):
    """A log that says nothing where the disk is full, instead of ending what wanted to say something."""

    def write(self, text: Any) -> int:
        try:
            return super().write(text) or 0
        except OSError:
            return len(text)
