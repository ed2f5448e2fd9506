"""A worker: it joins a study's queue and runs its trials, until none is left anywhere."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from search.errors import StudyError
from search.spec.study_spec import StudySpec
from search.storage.database import open_engine, open_storage
from search.storage.heartbeat import Heartbeat
from search.storage.location import StudyLocation
from search.storage.owner import WorkerLease, sweep
from search.workers.bench import TrialContext
from search.workers.watchdog import Watchdog

if TYPE_CHECKING:
    from search.study.queue import Claim, Failure, TrialQueue
    from search.task.task import Task

TICK = 0.5
"""Seconds between two looks at what others have done."""
FAILURES = 3
"""So many first trials that all fail stop the study; so do workers that die before they begin."""
FRUITLESS = 10
"""So do so many first trials that all end without a value."""


def work(
    spec: StudySpec,
    location: StudyLocation,
    sizes: list[int],
    task: "Task",
    *,
    run: str = "",
    say: Callable[[str], None] = print,
    begun: Callable[[], None] = lambda: None,
) -> None:
    """Run trials of these sizes until none is left, anywhere.

    `say` is told what the user should know; `begun` is called when a trial begins. Raises `StudyError` if a
    study's first trials all raise errors: that is the code's fault or the machine's, so the trials go back into the
    queue for when it is mended.
    """
    deadline = Watchdog(spec.train.timeout, last_words=lambda how: queue.mark_hung(how))
    with joined(location, spec, run=run, notify=say, meanwhile=deadline.waits, **task.facts) as queue:
        with deadline:
            bench = TrialContext.of(queue, task, progress=deadline.moved)

            def run_one(claim: "Claim") -> "Failure | None":
                begun()
                return bench.run(claim, deadline.moved)

            run_trials(queue, sizes, run_one, deadline)
        from search.training.checkpoint import sweep as sweep_checkpoints

        sweep_checkpoints(location, queue.studies)


@contextmanager
def joined(
    location: StudyLocation,
    spec: StudySpec,
    *,
    run: str = "",
    notify: Callable[[str], None] = print,
    meanwhile: Callable[[], None] = lambda: None,
    **facts: Any,
) -> Iterator["TrialQueue"]:
    """A study's queue of trials as an owner of trials, who is there, and beats, for as long as the block lasts.

    `facts` are what the study stores of its task: the arguments of `create_studies`; `notify` and `meanwhile` are those
    of `open_storage`.
    """
    from search.storage.rdb import leased_storage
    from search.storage.retry import PATIENCE_SECONDS
    from search.study.create import create_studies
    from search.study.queue import TrialQueue

    storage = open_storage(
        location.database, create=True, patience=PATIENCE_SECONDS, notify=notify, meanwhile=meanwhile
    )
    try:
        with WorkerLease.new(parent=run).held(location) as owner, heartbeat_for(location, owner) as leases:
            create_studies(storage, location, spec, **facts)
            yield TrialQueue(storage, location, spec, owner=owner, heartbeat=leases)
    finally:
        leased_storage(storage).engine.dispose()


def run_trials(
    queue: "TrialQueue", sizes: list[int], run: "Callable[[Claim], Failure | None]", deadline: Watchdog
) -> None:
    """Claim trials and run them, until nothing is left to do at these sizes, here or anywhere else.

    Raises `StudyError` if the first ones all fail.
    """
    from search.storage.rdb import LeaseLost

    first = StartupFailures(queue)
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
            sweep(queue.location)
            return
        time.sleep(TICK)  # peers are at the last trials; if one dies, its trial comes back


def heartbeat_for(location: StudyLocation, owner: WorkerLease) -> AbstractContextManager[Heartbeat | None]:
    """The owner's heartbeat, where others can't see its lock; None beside a database file, where all can."""
    return (
        nullcontext()
        if location.is_local
        else Heartbeat(open_engine(location.database), owner=str(owner), study=location.name)
    )


class StartupFailures:
    """Whether a study's first trials come to anything: where they all raise errors it is not for the trials to fail.

    Their failures are kept back until one trial is complete, here or in another process.
    """

    def __init__(self, queue: "TrialQueue") -> None:
        self.queue = queue
        self.sound = queue.has_complete()
        self.failures: list[Failure] = []
        self.fruitless = 0

    def ended(self, failure: "Failure | None") -> None:
        """A trial has ended, with what it raised. Raises `StudyError` when the first ones all came to nothing."""
        self.sound = self.sound or self.queue.has_complete()
        if failure is not None:
            self.failures.append(failure)
            if len(self.failures) == FAILURES and not self.sound:
                while self.failures:
                    self.queue.requeue(self.failures.pop().claim)
                raise StudyError(
                    f"The first {FAILURES} trials all failed, and wait to be run again; the last: {failure.reason}."
                )
        elif not self.sound:
            self.fruitless += 1
            if self.fruitless == FRUITLESS:
                raise StudyError(
                    f"The first {FRUITLESS} trials all diverged: their metric was never finite. Smaller learning rates "
                    "([space] head_lr), or other data?"
                )
        if self.sound:
            self.settle()

    def settle(self) -> None:
        """Nothing more is to come that could tell: what failed has failed."""
        for failure in self.failures:
            self.queue.fail(failure)
        self.failures.clear()
