"""Local worker processes. Each loads torch and the data once, and dies with its parent."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ctypes import CDLL
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from search.errors import FrostlineError
from search.spec.study_spec import StudySpec
from search.spec.values import Size
from search.storage.location import StudyLocation
from search.storage.owner import WorkerLease
from search.workers.process import redirect_output
from search.workers.signals import end_at_sigterm
from search.workers.supervisor import supervise
from search.workers.worker import Event, run_worker

PR_SET_PDEATHSIG = 1
"""Option of Linux's prctl(2) for the signal that a process gets when its parent dies."""


def run_workers(
    spec: StudySpec,
    location: StudyLocation,
    sizes: list[Size],
    *,
    count: int,
    tick: Callable[[], None] = lambda: None,
    notify: Callable[[str], None] = print,
) -> None:
    """Run `count` worker processes until nothing is left to do. Raises as `supervise` does."""
    run = WorkerLease.new()
    arguments = (spec.model_dump(mode="json", exclude_unset=True), location, sizes, run.token)
    supervise(LocalProcesses(arguments, count=count), location, run=run, tick=tick, notify=notify)


class LocalProcesses:
    """Worker processes of this machine, as an `Engine`."""

    def __init__(self, arguments: tuple[Any, ...], *, count: int) -> None:
        self.arguments = arguments
        self.count = count
        self.workers: dict[int, tuple[SpawnProcess, Connection]] = {}

    def room(self) -> int:
        return self.count

    def start(self, index: int) -> None:
        context = multiprocessing.get_context("spawn")
        reader, writer = context.Pipe(duplex=False)
        arguments = (writer, index, *self.arguments)
        process = context.Process(target=_work, args=arguments, name=f"frostline-worker-{index}", daemon=True)
        with _without_interrupts():  # a Ctrl-C during its imports would print a traceback
            process.start()
        writer.close()
        self.workers[index] = process, reader

    def poll(self, seconds: float) -> list[Event]:
        ends = [end for process, reader in self.workers.values() for end in (process.sentinel, reader)]
        wait([end for end in ends if not (isinstance(end, Connection) and end.closed)], seconds)
        events: list[Event] = []
        for index, (process, reader) in [*self.workers.items()]:
            # Read the exit code first: messages sent before the exit are then still read.
            code = process.exitcode
            events += _received(reader)
            if code is None:
                continue
            reader.close()
            del self.workers[index]
            if code == 0:
                events.append(Event(index=index, kind="finished"))
            else:
                events.append(Event(index=index, kind="died", text=_describe(code)))
        return events

    def close(self) -> None:
        for process, _ in self.workers.values():
            process.kill()
        for process, _ in self.workers.values():
            process.join()


def _received(reader: Connection) -> Iterator[Event]:
    while not reader.closed and reader.poll():
        try:
            message = reader.recv()
        except EOFError:
            reader.close()
            return
        if isinstance(message, Exception):
            raise message
        yield message


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Block SIGINT in processes that are started in the block."""
    resource_tracker.ensure_running()  # else `start` does that, and it unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _describe(code: int) -> str:
    return f"with exit code {code}" if code > 0 else f"by signal {-code} ({signal.strsignal(-code)})"


def _work(
    connection: Connection, index: int, content: dict[str, Any], location: StudyLocation, sizes: list[Size], parent: str
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    end_at_sigterm()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with suppress(AttributeError, OSError):  # on Linux also where native code hangs with Python's lock
        CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    redirect_output(os.devnull)
    try:
        spec = StudySpec.from_dict(content, where="the study file")
        run_worker(spec, location, sizes, index=index, parent=parent, report=connection.send)
    except FrostlineError as error:
        connection.send(error)
    except BaseException:
        connection.send(RuntimeError(f"A worker crashed:\n{traceback.format_exc()}"))
        raise


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
