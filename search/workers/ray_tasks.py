"""What Ray's worker processes do: load a study's task once, then run the trials that its driver has claimed."""

import gc
import json
import os
import signal
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from search.errors import StudyError
from search.spec.study_spec import StudySpec
from search.storage.database import open_storage, storage_errors
from search.storage.location import StudyLocation
from search.storage.owner import WorkerLease
from search.storage.rdb import LeaseLost
from search.storage.retry import PATIENCE_SECONDS
from search.workers.bench import TrialContext, load_task
from search.workers.watchdog import Watchdog
from strategies import FreezingStrategy

if TYPE_CHECKING:
    from search.task.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What all tasks of a driver have in common: the study, its place, and the working directory."""

    spec: str
    location: StudyLocation
    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A trial that the driver has claimed, named so that a task finds it in the database."""

    errand: Errand
    owner: str
    trial_id: int
    strategy: FreezingStrategy
    size: int
    repeat: int
    confirms: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a task ended, and what the user should know.

    facts: what the study stores of its task. failure: the reason and the attributes of a trial that raised.
    lost: whether the trial went to another owner.
    """

    notes: tuple[str, ...] = ()
    facts: dict[str, Any] | None = None
    failure: tuple[str, dict[str, Any]] | None = None
    lost: bool = False


_notes: list[str] = []
"""What this process has to say, and its next trial's end will."""


def look(errand: Errand) -> Ended:
    """Load and check the study's task, before anything is claimed. Raises `FrostlineError`."""
    task = _task(errand)
    return Ended(notes=tuple(task.notes), facts=task.facts)


def warm(errand_and_owner: tuple[Errand, str]) -> None:
    """Make all that a trial needs, so that one which comes here later begins at once."""
    _bench(*errand_and_owner)


def trial(order: Order) -> Ended:
    """Run a trial that the driver has claimed. Raises `FrostlineError`."""
    with storage_errors(order.errand.location.database):
        bench = _bench(order.errand, order.owner)
        queue = bench.queue
        claim = queue.adopt(
            order.trial_id, strategy=order.strategy, size=order.size, repeat=order.repeat, confirms=order.confirms
        )
        try:
            with Watchdog(bench.task.spec.train.timeout, last_words=queue.mark_hung) as deadline:
                print(f"{datetime.now(UTC)}: trial {claim.trial.number} of {claim.study.study_name}", flush=True)
                deadline.moved()
                failure = bench.run(claim, deadline.moved)
        except LeaseLost as lost:
            print(lost, flush=True)
            return Ended(lost=True)
        finally:
            queue.let_go(claim)
            gc.collect()  # a finished trial's Trainer and module hold each other, and their network
    notes = tuple(_notes)
    _notes.clear()
    return Ended(notes=notes, failure=None if failure is None else (failure.reason, failure.attributes))


@cache
def _task(errand: Errand) -> "Task":
    # A process of Ray's works for one driver, so what is made here is made once.
    try:
        os.chdir(errand.folder)
    except OSError as error:
        raise StudyError(
            f"{errand.folder}: {error.strerror} on {socket.gethostname()}; all nodes must share the working directory."
        ) from None
    # Lightning ends a fit at SIGTERM as if it were done; its handler calls ours.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))
    spec = StudySpec.from_dict(json.loads(errand.spec), where="the study file")
    if spec.train.gpus == 0:  # as many as it asks for: of those that Ray does not know, none
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return load_task(spec, errand.location)


@cache
def _bench(errand: Errand, owner: str) -> TrialContext:
    from search.study.queue import TrialQueue

    task, location, driver = _task(errand), errand.location, WorkerLease.parse(owner)
    assert driver is not None
    if not driver.file(location).exists():
        raise StudyError(
            f"{location.folder} on {socket.gethostname()} is not that of the driver: all nodes must share it."
        )
    storage = open_storage(location.database, patience=PATIENCE_SECONDS, notify=_notes.append)
    return TrialContext.of(TrialQueue(storage, location, task.spec, owner=driver), task)
