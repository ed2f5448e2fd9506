"""A worker: it joins a study's queue and runs its trials, until none is left anywhere."""

import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from ctypes import c_double
from math import inf
from typing import TYPE_CHECKING, Any

from search.deadline import Deadline
from search.errors import StudyError
from search.home import Home, Owner, sweep
from search.leases import Leases
from search.spec import StudySpec
from search.storage import open_engine, open_storage

if TYPE_CHECKING:
    from search.study import Claim, Failure, TrialQueue

TICK = 0.5
"""Seconds between two looks at what others have done."""
FAILURES = 3
"""So many first trials that all fail stop the study; so do workers that die before they begin."""
FRUITLESS = 10
"""So do so many first trials that all end without a value."""


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
        with Deadline(
            spec.train.deadline, last=c_double(inf) if last is None else last, last_words=queue.note_hung
        ) as deadline:

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
    from search.shared import PATIENCE, shared
    from search.study import TrialQueue

    storage = open_storage(home.url, create=True, patience=PATIENCE, say=say)
    try:
        with Owner.new(run=run).present(home) as owner, leases_of(home, owner) as leases:
            yield TrialQueue(storage, home, spec, owner=owner, leases=leases, **facts)
    finally:
        shared(storage).engine.dispose()


def run_trials(
    queue: "TrialQueue", sizes: list[int], run: "Callable[[Claim], Failure | None]", deadline: Deadline
) -> None:
    """Claim trials and run them, until nothing is left to do at these sizes, here or anywhere else.

    Raises `StudyError` if the first ones all fail.
    """
    from search.shared import LeaseLost

    queue.shared.meanwhile = deadline.waits
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
    return nullcontext() if home.is_local else Leases(open_engine(home.url), owner=str(owner), study=home.name)


class FirstTrials:
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
                    self.queue.put_back(self.failures.pop().claim)
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
