"""Trials on many machines: one Ray task a trial, and one process, the driver, that owns the study's queue.

All nodes have Frostline installed, see the working directory under the same path and in it the same folder of the study
(a network file system), and reach the database. Code of the user's own that a study file names is imported from there.
"""

import os
import shutil
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from optuna.exceptions import ExperimentalWarning, StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from search.errors import FrostlineError
from search.spec.study_spec import StudySpec
from search.storage.database import storage_errors
from search.storage.location import StudyLocation
from search.storage.owner import WorkerLease, sweep
from search.storage.rdb import LeaseLost
from search.study.recovery import deaths
from search.workers.bench import set_utc
from search.workers.cluster import Cluster, check_resources, cluster
from search.workers.ray_tasks import Ended, Errand, Order, look, trial, warm
from search.workers.worker import FAILURES, TICK, StartupFailures, joined

if TYPE_CHECKING:
    from search.study.queue import Claim, TrialQueue


def run_on_ray(
    spec: StudySpec,
    location: StudyLocation,
    sizes: list[int],
    *,
    address: str | None = None,
    tick: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = print,
) -> None:
    """Run trials as Ray tasks until nothing is left to do at these sizes; one whose process or node dies comes back.

    Without `address` they run in a cluster of this machine's own, all its CPUs. The contract is that of `run_workers`:
    the task is checked before anything is written, the first error ends all, and so does what `tick` raises; then the
    trials in flight are back in the queue. Only what dies with its node, which others' work or a spot market's price
    may have ended, is not counted against a trial.
    """
    check_resources(spec.train, location, address)
    set_utc()
    said: set[str] = set()

    def tell(note: str) -> None:
        if note not in said:
            said.add(note)
            say(note)

    errand = Errand(spec=spec.model_dump_json(exclude_unset=True), location=location, folder=os.getcwd())
    with ExitStack() as at_work:
        ray = at_work.enter_context(cluster(address, spec.train))
        unwritten = at_work.enter_context(ExitStack())
        if not location.folder.exists():
            unwritten.callback(shutil.rmtree, location.folder, ignore_errors=True)
        facts = _facts(ray, errand, tick, tell)
        unwritten.pop_all()
        run = at_work.enter_context(WorkerLease.new().held(location))
        at_work.enter_context(storage_errors(location.database))
        # Known and meant: the sampler is TPE with groups.
        at_work.enter_context(warnings.catch_warnings(category=ExperimentalWarning, action="ignore"))
        queue = at_work.enter_context(joined(location, spec, run=run.token, notify=tell, **facts))
        _Driver(ray, queue, errand, tell).run(sizes, tick)


def _facts(ray: Cluster, errand: Errand, tick: Callable[[], None], say: Callable[[str], None]) -> dict[str, Any]:
    """What the study stores of its task, as the first process found it that has loaded and checked it."""
    looking = ray.remote(look)
    # One for each place: the processes that load now are those that will train.
    tasks = [looking(errand) for _ in range(ray.room())]
    for _ in range(FAILURES):
        while not (done := ray.ended(tasks, within=TICK)):
            tick()
        ended = _outcome(ray, done[0])
        if isinstance(ended, Ended):
            for note in ended.notes:
                say(note)
            assert ended.facts is not None
            return ended.facts
        tasks = [*(task for task in tasks if task != done[0]), looking(errand)]
    reason = " ".join(str(ended).split())[:300]
    raise RuntimeError(f"{FAILURES} Ray tasks in a row ended before they began, the last with: {reason}")


def _outcome(ray: Cluster, task: Any) -> Ended | Exception:
    """How a task ended, or the error of Ray's that says how its process did. Raises what the task itself raised."""
    errors = ray.ray.exceptions
    try:
        ended: Ended = ray.ray.get(task)
    except errors.RayTaskError as error:
        if isinstance(error.cause, FrostlineError):
            raise error.cause from None
        raise RuntimeError(f"A Ray task crashed:\n{error}") from None
    except errors.RayError as error:
        return error  # type: ignore[no-any-return]
    return ended


class _Driver:
    """The process that claims trials, holds their lease, and has a task run each."""

    def __init__(self, ray: Cluster, queue: "TrialQueue", errand: Errand, say: Callable[[str], None]) -> None:
        self.ray = ray
        self.queue = queue
        self.errand = errand
        self.say = say
        self.trial = ray.remote(trial)
        self.first = StartupFailures(queue)
        self.in_flight: dict[Any, Claim] = {}

    def run(self, sizes: list[int], tick: Callable[[], None]) -> None:
        """Keep as many trials in flight as there is room for, until none is left anywhere."""
        spare_wanted = True
        try:
            while True:
                tick()
                room = self.ray.room()
                if not room:
                    self.say("The Ray cluster has lost every node with room for a trial; waiting for another.")
                while len(self.in_flight) < room and (claim := self.queue.claim(sizes)) is not None:
                    self.in_flight[self.trial(self._order(claim))] = claim
                if spare_wanted and self.in_flight:
                    spare_wanted = False
                    self.ray.spare(warm, (self.errand, str(self.queue.owner)))
                if not self.in_flight and room:
                    self.first.settle()
                    if self.queue.finished(sizes):
                        sweep(self.queue.location)
                        return
                if not self.in_flight:  # peers are at the last trials, or all nodes are gone
                    time.sleep(TICK)
                    continue
                for task in self.ray.ended([*self.in_flight], within=TICK):
                    ended = _outcome(self.ray, task)  # before the claim is out of hand: it may raise
                    claim = self.in_flight.pop(task)
                    if isinstance(ended, Ended):
                        self._end(claim, ended)
                    else:
                        self._died(claim, ended)
                        spare_wanted = True
        finally:
            self._put_back()

    def _order(self, claim: "Claim") -> Order:
        return Order(
            errand=self.errand,
            owner=str(self.queue.owner),
            trial_id=claim.trial._trial_id,
            strategy=claim.strategy,
            size=claim.size,
            repeat=claim.repeat,
            confirms=claim.confirms,
        )

    def _end(self, claim: "Claim", ended: Ended) -> None:
        from search.study.queue import Failure

        for note in ended.notes:
            self.say(note)
        if ended.failure is not None:
            reason, attributes = ended.failure
            self.first.ended(Failure(claim=claim, reason=reason, attributes=attributes))
            return
        self.queue.let_go(claim)
        if not ended.lost:
            self.first.ended(None)

    def _died(self, claim: "Claim", error: Exception) -> None:
        # What is RUNNING in our name and not in our hand goes back at the next claim, or fails when too much has died
        # of it (`TrialQueue`).
        with suppress(LeaseLost):
            if not isinstance(error, self.ray.ray.exceptions.NodeDiedError):
                trial = self.queue.storage.get_trial(claim.trial._trial_id)
                attempt = f"{self.queue.owner} {len(deaths(trial))}"  # all are the driver's
                self.queue.note(claim, {"died": deaths(trial, attempt)})
        self.queue.let_go(claim)

    def _put_back(self) -> None:
        self.ray.cancel([*self.in_flight])
        self.queue.shared.patience = 0.0  # who is asked to stop does not wait: their lease expires
        with suppress(SQLAlchemyError, StorageInternalError):
            for claim in (*self.in_flight.values(), *(failure.claim for failure in self.first.failures)):
                if self.queue.shared.has(claim.trial._trial_id):
                    self.queue.requeue(claim)
