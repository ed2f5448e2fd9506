"""One trial: a claimed strategy fitted, scored and stored."""

import math
import os
import traceback
from collections.abc import Callable

from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from search.activations.frozen_prefix import FrozenPrefix
from search.device import PLAIN, ComputeFormat
from search.storage.rdb import LeaseLost
from search.study.queue import Claim, Failure, TrialQueue
from search.study.result import TrialResult
from search.task.task import Task
from search.training.checkpoint import TrialCheckpoint
from search.training.fit import fit
from search.user_code import one_line


def run_trial(
    queue: TrialQueue,
    claim: Claim,
    task: Task,
    *,
    frozen_prefix: FrozenPrefix | None = None,
    compute_format: ComputeFormat = PLAIN,
    progress: Callable[[], None] = lambda: None,
) -> Failure | None:
    """Run a claimed trial and store its end; return a `Failure` if it raised.

    It resumes from its checkpoint if an earlier process died. `progress` may end the run by a `BaseException`. That and
    `LeaseLost` are raised here too, and then the checkpoint stays for the trial's next process.
    """
    checkpoint = TrialCheckpoint(queue.location, claim.trial)
    # At once, so that a trial whose process dies has them too.
    queue.note(
        claim,
        {
            "size": claim.size,
            "repeat": claim.repeat,
            "extension": queue.extension,
            "seed": task.seed(claim.repeat),
            "family": str(claim.strategy.family(task.num_groups)),
            "trainable_parameters": task.trainable_parameters(claim.strategy),
        },
    )
    failure = None
    try:
        fitted = fit(
            task,
            claim.strategy,
            size=claim.size,
            repeat=claim.repeat,
            trial=claim.trial,
            checkpoint=checkpoint,
            test=claim.judged,
            frozen_prefix=frozen_prefix,
            compute_format=compute_format,
            progress=progress,
        )
        queue.finish(claim, fitted, meanwhile=progress)
    except (LeaseLost, StorageInternalError):  # not the trial's fault
        raise
    except Exception as error:
        traceback.print_exc()
        curve = queue.storage.get_trial(claim.trial._trial_id).intermediate_values
        result = TrialResult(
            state=TrialState.FAIL,
            value=math.nan,
            epochs=len(curve),
            seconds=checkpoint.seconds,
            reason=_reason(error),
        )
        failure = Failure(claim=claim, result=result)
    checkpoint.remove()
    return failure


def _reason(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{one_line(error)} ({os.path.basename(frame.filename)}:{frame.lineno})"
