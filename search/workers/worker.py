"""The worker loop: join a study's queue and run trials until none is left."""

import gc
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from search.errors import StudyError
from search.files import is_refused
from search.spec.study_spec import StudySpec
from search.spec.values import Size
from search.storage.database import open_engine, open_storage, storage_errors
from search.storage.heartbeat import Heartbeat
from search.storage.location import StudyLocation
from search.storage.owner import WorkerLease, sweep
from search.workers.process import load_task, log_file, redirect_output
from search.workers.watchdog import Watchdog

if TYPE_CHECKING:
    from search.study.queue import Claim, Failure, TrialQueue
    from search.task.task import Task

POLL_SECONDS = 0.5
"""Time between two looks at what other workers have done."""
MAX_STARTUP_FAILURES = 3
"""So many first trials that all raise errors stop the study."""
MAX_STARTUP_DIVERGED = 10
"""So many first trials that all end without a value stop the study."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A report about one worker.

    kind: "ready" once it found the task right, "begun" with each trial, "note" with a line for the user.
    A worker's last event is "finished" when nothing is left to do, "died", or "lost" with its whole machine. `text`
    says how it died or was lost.
    """

    index: int
    kind: Literal["ready", "begun", "note", "finished", "died", "lost"]
    text: str = ""


def run_worker(
    spec: StudySpec,
    location: StudyLocation,
    sizes: list[Size],
    *,
    index: int,
    report: Callable[[Event], None],
    parent: str = "",
    lease: WorkerLease | None = None,
) -> None:
    """Run trials of these sizes in this process until none is left anywhere.

    The task is checked before anything is written. From then on output goes to the study's `logs/worker-{index}.log`.

    report: called with the worker's events, except for its end.
    parent: the token of the run that started this worker. lease: one that the run holds for this worker.
    Raises `FrostlineError` for what a user can mend.
    """

    def notify(line: str) -> None:
        report(Event(index=index, kind="note", text=line))

    # Entered after `queue` is bound, which in turn needs the watchdog's `extend`.
    watchdog = Watchdog(spec.train.timeout, last_words=lambda how: queue.mark_hung(how))
    try:
        task = load_task(spec, location)
        from search.training.checkpoint import sweep as sweep_checkpoints

        redirect_output(log_file(location, index))
        report(Event(index=index, kind="ready"))
        for note in task.data.notes:
            notify(note)
        with (
            storage_errors(location.database),
            joined_study(
                location, spec, parent=parent, lease=lease, notify=notify, meanwhile=watchdog.extend, **task.facts
            ) as queue,
            watchdog,
        ):
            run = trial_runner(queue, task, progress=watchdog.kick)

            def run_one(claim: "Claim") -> "Failure | None":
                report(Event(index=index, kind="begun"))
                return run(claim)

            run_trials(queue, queue.sizes(sizes), run_one, watchdog)
            sweep_checkpoints(location, queue.studies)
    except OSError as error:
        if not is_refused(error):
            raise
        traceback.print_exc()
        raise StudyError(f"{error.filename or location.folder}: can't write there: {error.strerror}.") from None


def run_trials(
    queue: "TrialQueue", sizes: list[int], run: "Callable[[Claim], Failure | None]", watchdog: Watchdog
) -> None:
    """Claim trials and run them until none is left, here or in another process.

    Raises `StudyError` if the first trials all fail.
    """
    from search.storage.rdb import LeaseLost

    failures = StartupFailures(queue)
    while True:
        watchdog.stop()
        # A finished trial's Trainer and module refer to each other, and to the network and the optimizer's state: some
        # hundred MB with a BERT, which Python would let pile up.
        gc.collect()
        claim = queue.claim(sizes)
        if claim is not None:
            watchdog.kick()
            try:
                failures.ended(run(claim))
            except LeaseLost as lost:
                print(lost, flush=True)
                queue.release(claim)
            continue
        failures.settle()
        if queue.finished(sizes):
            sweep(queue.location)
            return
        time.sleep(POLL_SECONDS)  # peers run the last trials; if one dies, its trial comes back


@contextmanager
def joined_study(
    location: StudyLocation,
    spec: StudySpec,
    *,
    parent: str = "",
    lease: WorkerLease | None = None,
    notify: Callable[[str], None] = print,
    meanwhile: Callable[[], None] = lambda: None,
    **facts: Any,
) -> Iterator["TrialQueue"]:
    """Join a study as an owner of trials until the block ends.

    parent: the token of the run that started this process. lease: one that the run holds; by default a new one.
    notify, meanwhile: those of `open_storage`.
    facts: attributes that the study stores of its task, as arguments of `create_studies`.
    """
    from search.storage.rdb import leased_storage
    from search.storage.retry import PATIENCE_SECONDS
    from search.study.create import create_studies
    from search.study.queue import TrialQueue

    held = WorkerLease.new(parent=parent).held(location) if lease is None else nullcontext(lease)
    storage = open_storage(
        location.database, create=True, patience=PATIENCE_SECONDS, notify=notify, meanwhile=meanwhile
    )
    try:
        with held as owner, heartbeat_for(location, owner) as heartbeat:
            create_studies(storage, location, spec, **facts)
            yield TrialQueue(storage, location, spec, owner=owner, heartbeat=heartbeat)
    finally:
        leased_storage(storage).engine.dispose()


def heartbeat_for(location: StudyLocation, owner: WorkerLease) -> AbstractContextManager[Heartbeat | None]:
    """Return the owner's heartbeat; None beside a database file, where its lock is seen."""
    if location.is_local:
        return nullcontext()
    return Heartbeat(open_engine(location.database), owner=str(owner), study=location.name)


def trial_runner(
    queue: "TrialQueue", task: "Task", *, progress: Callable[[], None]
) -> "Callable[[Claim], Failure | None]":
    """Build everything a worker reuses for its trials; return the function that runs one.

    That is the pretrained weights, trained here on the source task where they are missing, the cached activations, and
    the precision. Raises `FrostlineError`.
    """
    from search.activations.frozen_prefix import FrozenPrefix
    from search.digest import digest
    from search.training.precision import compute_format_of
    from search.training.source_task import with_source_weights
    from search.workers.trial import run_trial

    location, notify = queue.location, queue.notify
    task = with_source_weights(task, location)
    if task.weights is not None:
        queue.check_weights(digest(*task.weights.items()))
    compute_format = compute_format_of(task, location, notify=notify)
    frozen_prefix = FrozenPrefix.of(task, cache=location.folder / "cache", say=notify, progress=progress)
    return lambda claim: run_trial(
        queue, claim, task, frozen_prefix=frozen_prefix, compute_format=compute_format, progress=progress
    )


class StartupFailures:
    """Failures of a study's first trials, held back until a trial is complete anywhere.

    Where they all raise errors, the code or the machine is at fault: the trials then wait to be run again.
    """

    def __init__(self, queue: "TrialQueue") -> None:
        self.queue = queue
        self.has_complete = queue.has_complete()
        self.failures: list[Failure] = []
        self.diverged = 0

    def ended(self, failure: "Failure | None") -> None:
        """Count an ended trial. Raises `StudyError` when the first all failed or diverged."""
        self.has_complete = self.has_complete or self.queue.has_complete()
        if failure is not None:
            self.failures.append(failure)
            if len(self.failures) == MAX_STARTUP_FAILURES and not self.has_complete:
                while self.failures:
                    self.queue.requeue(self.failures.pop().claim)
                raise StudyError(
                    f"The first {MAX_STARTUP_FAILURES} trials all failed, and wait to be run again; the last: "
                    f"{failure.result.reason}."
                )
        elif not self.has_complete:
            self.diverged += 1
            if self.diverged == MAX_STARTUP_DIVERGED:
                raise StudyError(
                    f"The first {MAX_STARTUP_DIVERGED} trials all diverged: their metric was never finite. Smaller "
                    "learning rates ([space] head_lr), or other data?"
                )
        if self.has_complete:
            self.settle()

    def settle(self) -> None:
        """Store the failures that were held back."""
        for failure in self.failures:
            self.queue.fail(failure)
        self.failures.clear()
