"""The worker loop: join a study's queue and run its trials until none is left anywhere."""

import gc
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from search.errors import StudyError
from search.files import is_refused
from search.spec.study_spec import StudySpec
from search.storage.database import open_engine, open_storage, storage_errors
from search.storage.heartbeat import Heartbeat
from search.storage.location import StudyLocation
from search.storage.owner import WorkerLease, sweep
from search.workers.setup import load_task, log_file, redirect_output
from search.workers.watchdog import Watchdog

if TYPE_CHECKING:
    from search.activations.frozen_prefix import FrozenPrefix
    from search.device import ComputeFormat
    from search.study.queue import Claim, Failure, TrialQueue
    from search.task.task import Task

POLL_SECONDS = 0.5
"""Time between two looks at what other workers have done."""
MAX_STARTUP_FAILURES = 3
"""So many first trials that all raise errors stop the study."""
MAX_STARTUP_DIVERGED = 10
"""So many first trials that all end without a value stop the study."""


def run_worker(
    spec: StudySpec,
    location: StudyLocation,
    sizes: list[int],
    *,
    index: int,
    report: Callable[[str, str], None],
    parent: str = "",
    lease: WorkerLease | None = None,
) -> None:
    """Run trials of these sizes in this process until none is left anywhere.

    The task is checked before anything is written. From then on output goes to the study's `logs/worker-{index}.log`.

    report: called with "ready" once the task is right, "begun" when the first trial begins, and "note" and a line for
    the user. parent: the token of the run that started this worker. lease: one that the run holds for this worker.
    Raises `FrostlineError` for what a user can mend.
    """

    def notify(line: str) -> None:
        report("note", line)

    watchdog = Watchdog(spec.train.timeout, last_words=lambda how: queue.mark_hung(how))
    try:
        task = load_task(spec, location)
        from search.training.checkpoint import sweep as sweep_checkpoints

        redirect_output(log_file(location, index))
        report("ready", "")
        for note in task.notes:
            notify(note)
        with (
            storage_errors(location.database),
            joined_study(
                location, spec, parent=parent, lease=lease, notify=notify, meanwhile=watchdog.pause, **task.facts
            ) as queue,
            watchdog,
        ):
            context = TrialContext.of(queue, task, progress=watchdog.kick)
            begun = False

            def run_one(claim: "Claim") -> "Failure | None":
                nonlocal begun
                if not begun:
                    report("begun", "")
                begun = True
                return context.run(claim)

            run_trials(queue, sizes, run_one, watchdog)
            sweep_checkpoints(location, queue.studies)
    except OSError as error:
        if not is_refused(error):
            raise
        traceback.print_exc()
        raise StudyError(f"{error.filename or location.folder}: can't write there: {error.strerror}.") from None


def run_trials(
    queue: "TrialQueue", sizes: list[int], run: "Callable[[Claim], Failure | None]", watchdog: Watchdog
) -> None:
    """Claim trials and run them until nothing is left to do at these sizes, here or in another process.

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
                queue.let_go(claim)
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
    """Join a study as an owner of trials, present and with a heartbeat as long as the block lasts.

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
    """Return the owner's heartbeat where others can't see its lock; None beside a database file, where all can."""
    if location.is_local:
        return nullcontext()
    return Heartbeat(open_engine(location.database), owner=str(owner), study=location.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialContext:
    """Everything a worker builds once and reuses for all its trials: task, cached activations, precision."""

    queue: "TrialQueue"
    task: "Task"
    layers: "FrozenPrefix | None"
    compute_format: "ComputeFormat"
    progress: Callable[[], None]

    @classmethod
    def of(cls, queue: "TrialQueue", task: "Task", *, progress: Callable[[], None]) -> Self:
        """Train the source task's weights where they are missing, then build the rest. Raises `FrostlineError`."""
        from search.activations.frozen_prefix import FrozenPrefix
        from search.digest import digest
        from search.training.precision import compute_format_of
        from search.training.source_task import with_source_weights

        location, notify = queue.location, queue.notify
        task = with_source_weights(task, location)
        if task.weights is not None:
            queue.check_weights(digest(*task.weights.items()))
        compute_format = compute_format_of(task, location, notify=notify)
        layers = FrozenPrefix.of(task, cache=location.folder / "cache", say=notify, progress=progress)
        return cls(queue=queue, task=task, layers=layers, compute_format=compute_format, progress=progress)

    def run(self, claim: "Claim") -> "Failure | None":
        """Run a claimed trial, as `search.workers.trial.run_trial` does."""
        from search.workers.trial import run_trial

        return run_trial(
            self.queue,
            claim,
            self.task,
            layers=self.layers,
            compute_format=self.compute_format,
            progress=self.progress,
        )


class StartupFailures:
    """Failures of a study's first trials, held back until one trial is complete, here or elsewhere.

    Where they all raise errors, the code or the machine is at fault: the trials then wait to be run again.
    """

    def __init__(self, queue: "TrialQueue") -> None:
        self.queue = queue
        self.has_complete = queue.has_complete()
        self.failures: list[Failure] = []
        self.diverged = 0

    def ended(self, failure: "Failure | None") -> None:
        """Count a trial that has ended. Raises `StudyError` when the first ones all failed or diverged."""
        self.has_complete = self.has_complete or self.queue.has_complete()
        if failure is not None:
            self.failures.append(failure)
            if len(self.failures) == MAX_STARTUP_FAILURES and not self.has_complete:
                while self.failures:
                    self.queue.requeue(self.failures.pop().claim)
                raise StudyError(
                    f"The first {MAX_STARTUP_FAILURES} trials all failed, and wait to be run again; the last: "
                    f"{failure.reason}."
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
