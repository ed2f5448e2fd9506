"""Local worker processes: long-lived, each loads torch and the data once, and dies with its parent."""

import errno
import gc
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from ctypes import c_double
from dataclasses import dataclass
from math import inf
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.deadline import LATE, Deadline, is_over
from search.errors import FrostlineError, StorageError, StudyError
from search.home import Home, Owner, sweep
from search.leases import Leases
from search.spec import StudySpec
from search.storage import open_engine, open_storage, storage_errors

if TYPE_CHECKING:
    from search.study import Claim, Failure, TrialQueue

TICK = 0.5
"""Seconds between two looks at what the workers have done."""
FAILURES = 3
"""A worker whose first trials all fail stops and says why; so do workers that die before they begin."""


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    last: c_double
    ready: bool = False


def run_workers(
    spec: StudySpec,
    home: Home,
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
    run = Owner.new()

    def start(index: int) -> _Worker:
        ours, theirs = context.Pipe(duplex=False)
        last = context.RawValue(c_double, inf)
        arguments = (theirs, last, spec.model_dump(mode="json", exclude_unset=True), home, sizes, index, run.token)
        process = context.Process(target=_work, args=arguments, name=f"frostline-worker-{index}", daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours, last)

    with ExitStack() as at_work:
        unwritten = at_work.enter_context(ExitStack())
        if not home.folder.exists():  # what a worker had decoded before it found the data wrong
            unwritten.callback(shutil.rmtree, home.folder, ignore_errors=True)
        at_work.callback(_end, workers)
        workers += [start(index) for index in range(count)]
        present = False
        while True:
            for worker in workers:
                if is_over(worker.last, spec.train.deadline + LATE):
                    worker.process.kill()  # it hangs so hard that it could not end itself
                    worker.process.join()
            codes = [worker.process.exitcode for worker in workers]
            for index, (worker, code) in enumerate(zip(list(workers), codes, strict=True)):
                # After the exit code, so that nothing a worker said before it ended is missed.
                for note in _listen(worker):
                    if note not in said:
                        said.add(note)
                        say(note)
                if code not in (None, 0):
                    stillborn = 0 if worker.ready else stillborn + 1
                    if stillborn == FAILURES:
                        raise RuntimeError(f"{FAILURES} workers in a row ended (code {code}) before they began.")
                    workers[index] = start(index)
            # Not before a worker has found the task right: until then nothing is written.
            if not present and any(worker.ready for worker in workers):
                unwritten.pop_all()
                at_work.enter_context(run.present(home))
                present = True
            tick()
            if all(code == 0 for code in codes):
                return
            open_ends = [worker.connection for worker in workers if not worker.connection.closed]
            wait([*open_ends, *(worker.process.sentinel for worker in workers if worker.process.is_alive())], TICK)


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
        elif kind == "error":
            raise content
        else:
            raise RuntimeError(f"A worker crashed:\n{content}")
    return notes


def _work(
    connection: Connection,
    last: c_double,
    content: dict[str, Any],
    home: Home,
    sizes: list[int],
    index: int,
    run: str,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    # Lightning ends a fit at SIGTERM with exit code 0, as if it were done; its handler calls ours.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _redirect(os.devnull)
    keep_utc()
    try:
        spec = StudySpec.from_dict(content, where="the study file")
        quieten()
        import torch

        from search.tasks.task import Task

        torch.set_num_threads(spec.train.threads)
        if not torch.cuda.is_available():
            # Every optimizer step asks for an accelerator; that there is none takes its libraries 0.2 ms to find out,
            # unless it is said. A step of a linear probe on stored features takes 0.5 ms.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        task = Task.load(spec, cache=home.folder / "cache")
        _redirect(_log_file(home, index))
        connection.send(("ready", task.notes))
        gc.collect()
        gc.freeze()  # what is there now stays: the collections after each trial need not look at it
        with storage_errors(home.url):
            work(spec, home, sizes, task, run=run, say=lambda note: connection.send(("ready", [note])), last=last)
    except FrostlineError as error:
        connection.send(("error", error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            connection.send(("crash", traceback.format_exc()))
            raise
        connection.send(("error", StudyError(f"{error.filename or home.folder}: can't write there: {error.strerror}.")))
    except BaseException:
        connection.send(("crash", traceback.format_exc()))
        raise


def work(
    spec: StudySpec,
    home: Home,
    sizes: list[int],
    task: Any,
    *,
    run: str = "",
    say: Callable[[str], None] = print,
    last: c_double | None = None,
) -> None:
    """Run trials of these sizes until none is left, anywhere. `task` is the loaded `Task`.

    `say` is told what the user should know; `last` shows when something was last finished. Raises `StudyError` if a
    study's first trials all raise errors: that is the code's fault or the machine's, so the trials go back into the
    queue for when it is mended.
    """
    from search.activations.digests import digest
    from search.frozen import FrozenLayers
    from search.precision import arithmetic_of
    from search.tasks.source import with_source_weights
    from search.trial import run_trial

    facts = {
        "num_groups": task.num_groups,
        "kind": task.data.kind,
        "groups": [group.name for group in task.groups],
        "data": task.data.fingerprint,
    }
    with joined(home, spec, run=run, say=say, **facts) as queue:
        task = with_source_weights(task, home)
        if task.weights is not None:
            queue.check_weights(digest(*task.weights.items()))
        arithmetic = arithmetic_of(task, home, say=say)
        layers = FrozenLayers.of(task, cache=home.folder / "cache", say=say)
        with Deadline(spec.train.deadline, last=last or c_double(inf), last_words=queue.note_hung) as deadline:

            def run_one(claim: "Claim") -> "Failure | None":
                return run_trial(queue, claim, task, layers=layers, arithmetic=arithmetic, progress=deadline.moved)

            run_trials(queue, sizes, run_one, deadline)


@contextmanager
def joined(
    home: Home, spec: StudySpec, *, run: str = "", say: Callable[[str], None] = print, **facts: Any
) -> Iterator["TrialQueue"]:
    """A study's queue of trials as an owner of trials, who is there, and beats, for as long as the block lasts.

    `facts` are what the study stores of its task: the arguments of `TrialQueue`.
    """
    from search.shared import PATIENCE
    from search.study import TrialQueue

    storage = open_storage(home.url, create=True, patience=PATIENCE, say=say)
    with Owner.new(run=run).present(home) as owner, leases_of(home, owner) as leases:
        yield TrialQueue(storage, home, spec, owner=owner, leases=leases, **facts)


def run_trials(
    queue: "TrialQueue", sizes: list[int], run: "Callable[[Claim], Failure | None]", deadline: Deadline
) -> None:
    """Claim trials and run them, until nothing is left to do at these sizes, here or anywhere else.

    Raises `StudyError` if the first ones all fail.
    """
    from search.shared import LeaseLost

    first = FirstTrials(queue)
    while True:
        # A finished trial's Trainer and module hold each other, its network and its optimizer's state: some hundred
        # MB with a BERT, which Python would let pile up.
        gc.collect()
        claim = queue.claim(sizes)
        if claim is not None:
            deadline.moved()
            try:
                first.ended(run(claim))
            except LeaseLost as lost:
                print(lost, flush=True)
                queue.let_go(claim)
            deadline.rests()
            continue
        first.settle()
        if queue.finished(sizes):
            sweep(queue.home)
            return
        time.sleep(TICK)  # peers are at the last trials; if one dies, its trial comes back


def leases_of(home: Home, owner: Owner) -> AbstractContextManager[Leases | None]:
    """The owner's heartbeat, where others can't see its lock; None beside a database file, where all can."""
    return nullcontext() if home.is_local else Leases(open_engine(home.url), owner=str(owner))


class FirstTrials:
    """Whether a study's first trials raise errors: then it is not for the trials to fail.

    Their failures are kept back until one trial has come to its end, here or in another process.
    """

    def __init__(self, queue: "TrialQueue") -> None:
        self.queue = queue
        self.sound = queue.has_complete()
        self.failures: list[Failure] = []

    def ended(self, failure: "Failure | None") -> None:
        """A trial has ended, with what it raised. Raises `StudyError` when the first few all failed."""
        if failure is None:
            self.sound = True
        else:
            self.failures.append(failure)
            if len(self.failures) == FAILURES and not self.sound and not self.queue.has_complete():
                while self.failures:
                    self.queue.put_back(self.failures.pop().claim)
                raise StudyError(
                    f"The first {FAILURES} trials all failed, and wait to be run again; the last: {failure.reason}."
                )
        if self.sound:
            self.settle()

    def settle(self) -> None:
        """Nothing more is to come that could tell: what failed has failed."""
        for failure in self.failures:
            self.queue.fail(failure)
        self.failures.clear()


def _log_file(home: Home, index: int) -> Path:
    file = home.folder / "logs" / f"worker-{index}.log"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    except OSError as error:
        raise StorageError(f"{home.folder}: can't write there: {error.strerror}.") from None
    return file


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


def keep_utc() -> None:
    """Let the time of day, which Optuna stores, be one on all hosts."""
    os.environ["TZ"] = "UTC"
    if hasattr(time, "tzset"):
        time.tzset()


def quieten() -> None:
    """Keep what Lightning and Optuna say of themselves out of the log."""
    import logging
    import warnings

    import lightning.pytorch  # noqa: F401  (its import sets the level that is lowered here)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Known and meant: frozen parts are in eval mode, data that lies in memory needs no worker processes.
    for message in (".*module.s. in eval mode", ".*does not have many workers", ".*no `val_dataloader`", ".*LeafSpec"):
        warnings.filterwarnings("ignore", message=message)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
