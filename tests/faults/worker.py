"""A worker whose trials train nothing; queue, storage and ownership are the product's own."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import TrialState

from search.spec.study_spec import StudySpec
from search.storage import heartbeat
from search.storage.location import StudyLocation
from search.storage.owner import sweep
from search.study.queue import Claim, TrialQueue
from search.study.result import TrialResult
from search.workers.watchdog import Watchdog
from search.workers.worker import joined_study, run_trials

GROUPS = 4
UNEXPLORED = [40]
STUDY = {
    "task": {"data": "none", "sizes": [20, 40]},
    "model": {"backbone": "none", "weights": "none"},
    "train": {"epochs": 4, "timeout": 60},
    "search": {"trials": 12, "sampler": "random", "pruner": "none"},
    "confirm": {"repeats": 2},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Settings of a worker.

    out: its folder. log: the file to which all write what they did. pause: seconds an epoch. zone: its host's.
    hangs: whether its second trial hangs.
    beat, grace: seconds, of `search.storage.heartbeat`; those of the product would take minutes.
    """

    out: str
    storage: str
    log: str
    spec: str = json.dumps(STUDY)
    pause: float = 0.01
    beat: float = 0.2
    grace: float = 1.0
    zone: str = "UTC"
    hangs: bool = False

    @property
    def study(self) -> StudySpec:
        return StudySpec.from_dict(json.loads(self.spec), where="the fault's study")

    @property
    def location(self) -> StudyLocation:
        return StudyLocation.of("faults", out=Path(self.out), storage=self.storage)


def value_at(claim: Claim, epoch: int) -> float:
    """Return a trial's report, always the same, so that interference shows."""
    return round(claim.strategy.head_lr + claim.strategy.freeze_depth + claim.repeat / 7 + 1 / (epoch + 1), 9)


def main(work: Work) -> None:
    """Run trials until none is left."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    os.environ["TZ"] = work.zone
    time.tzset()
    heartbeat.HEARTBEAT_SECONDS, heartbeat.GRACE_SECONDS = work.beat, work.grace
    spec = work.study
    watchdog = Watchdog(spec.train.timeout, last_words=lambda how: queue.mark_hung(how))

    def notify(note: str) -> None:
        say(work, "note", note)

    facts = {"num_groups": GROUPS, "unexplored": UNEXPLORED}
    with joined_study(work.location, spec, notify=notify, meanwhile=watchdog.extend, **facts) as queue, watchdog:
        run_trials(queue, spec.task.sizes, lambda claim: run(work, queue, claim, progress=watchdog.kick), watchdog)
    sweep(work.location)


def run(work: Work, queue: TrialQueue, claim: Claim, *, progress: Callable[[], None]) -> None:
    """Run one trial: an epoch is a pause and a report."""
    name = f"{claim.study.study_name}#{claim.trial.number}"
    say(work, "begin", name)
    begun = queue.storage.get_trial(claim.trial._trial_id).last_step
    if work.hangs and name.endswith("n=20#1"):
        time.sleep(1000)
    for epoch in range(0 if begun is None else begun + 1, work.study.train.epochs):
        time.sleep(work.pause)
        at = time.monotonic()  # before the report, after which this process may be suspended
        claim.trial.report(value_at(claim, epoch), epoch)
        say(work, "epoch", name, at=at)
        progress()
    family = str(claim.strategy.family(GROUPS))
    queue.note(claim, {"size": claim.size, "repeat": claim.repeat, "family": family})
    epochs = work.study.train.epochs
    result = TrialResult(
        state=TrialState.COMPLETE,
        value=value_at(claim, epochs - 1),
        epochs=epochs,
        seconds=1.0,
        scores={"test_accuracy": 0.5, "val_accuracy": 0.5} if claim.judged else {},
    )
    queue.finish(claim, result)
    say(work, "end", name)


def say(work: Work, what: str, about: str, *, at: float | None = None) -> None:
    """Append a whole line to the log, to which others append too."""
    with open(work.log, "a") as log:
        log.write(f"{at or time.monotonic():.4f}\t{os.getpid()}\t{what}\t{about}\n")
