"""A queue of trials that train nothing; as a program, a process that works on one."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
from optuna.trial import TrialState

from search.spec.study_spec import StudySpec
from search.storage.database import open_storage
from search.storage.location import StudyLocation
from search.storage.owner import WorkerLease
from search.study.create import create_studies
from search.study.queue import TrialQueue
from search.study.result import TrialResult
from search.verdict.load import read_results

GROUPS = 4


def open_queue(location, spec, owner=None, *, patience=0.0, **facts):
    with location.lock("queue"):
        storage = open_storage(location.database, create=True, patience=patience)
    create_studies(storage, location, spec, num_groups=GROUPS, **facts)
    return TrialQueue(storage, location, spec, owner=owner)


def ended(state=TrialState.COMPLETE, value=math.nan, **fields):
    return TrialResult(state=state, value=value, epochs=0, seconds=1.0, **fields)


def work(queue, sizes, *, most=1000, noise=lambda place: 0.0, seems=lambda number, value, judged: value):
    """Run claimed trials on a torch-free objective; returns what was claimed.

    The less the objective's value the better; the metric is its negative.

    noise: added to a confirm trial's score. seems: the value of an exploring trial, by its number.
    """
    claims = []
    while len(claims) < most and (claim := queue.claim(sizes)) is not None:
        value = abs(claim.strategy.freeze_depth - 1) + claim.strategy.head_lr + claim.size / 1000
        explored = claim.study.trials[claim.trial.number].user_attrs.get("source_trial", claim.trial.number)
        value = seems(explored, value, claim.judged)
        if claim.study.trials[claim.trial.number].last_step is None:  # else it has come back
            claim.trial.report(-value, 0)
        family = str(claim.strategy.family(GROUPS))
        queue.note(claim, {"size": claim.size, "repeat": claim.repeat, "extension": queue.extension, "family": family})
        score = 0.8 - value / 10 + noise((claim.size, explored, claim.repeat))
        scores = {"test_accuracy": score, "val_accuracy": score}
        queue.finish(claim, ended(value=-value, scores=scores if claim.judged else {}))
        claims.append(claim)
    return claims


def states(location):
    return Counter(row.state for row in read_results(open_storage(location.database), location).rows)


def in_process(job, location, spec):
    """Start this file as a program (below) that does the job in a process of its own."""
    content = json.dumps(spec.model_dump(mode="json", exclude_unset=True))
    return subprocess.Popen([sys.executable, __file__, job, location.folder.parent, content])


def main(job, out, content):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    location, spec = (
        StudyLocation.of("tiny", out=Path(out), storage=None),
        StudySpec.from_dict(json.loads(content), where="test"),
    )
    with WorkerLease.new().held(location) as owner:
        queue = open_queue(location, spec, owner)
        if job in ("die", "advance"):
            trial = queue.claim([20]).trial
            reported = queue.storage.get_trial(trial._trial_id).last_step
            trial.report(1.0, 0 if job == "die" or reported is None else reported + 1)
            os.kill(os.getpid(), signal.SIGKILL)
        while not queue.finished([20, 40]):
            work(queue, [20, 40])
            time.sleep(0.05)


if __name__ == "__main__":
    main(*sys.argv[1:])
