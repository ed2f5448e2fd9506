"""One trial: one run of a claimed strategy, reported, pruned, tested and stored."""

import math
import os
import traceback
from collections.abc import Callable
from typing import Any

import optuna
from lightning.pytorch import Callback, LightningModule, Trainer
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from optuna_integration import PyTorchLightningPruningCallback

from search.activations.frozen_prefix import FrozenPrefix
from search.data.examples import TaskData
from search.device import PLAIN, ComputeFormat, eval_batch
from search.files import when_there_is_room
from search.storage.location import StudyLocation
from search.storage.rdb import LeaseLost
from search.storage.retry import PATIENCE
from search.study.queue import Claim, Failure, TrialQueue
from search.task.task import Task
from search.training.checkpoint import TrialCheckpoint, sweep
from search.training.fit import FitResult, logged, score_on_test, train
from search.training.scoring import Scores, describe_test
from search.verdict.predictions import save_predictions


class PruningCallback(PyTorchLightningPruningCallback):
    """Optuna's callback, made to end a run instead of breaking out of it.

    The stock one raises inside the hook, so that epoch's other callbacks, `on_train_end` and `teardown` never
    run; a missing metric only warns, and the trial is then never pruned; and a trial that comes back after its
    process died would be judged at each step by what it had reported last. This one asks the Trainer to stop and
    leaves it to the caller to raise (`check`), insists on the metric, and passes over the steps before `reported`,
    the last one that is stored (-1: none). At that one the trial is judged: its process may have died in between.
    """

    def __init__(self, trial: optuna.Trial, monitor: str) -> None:
        super().__init__(trial, monitor)
        last_step = trial.storage.get_trial(trial._trial_id).last_step
        self.reported = -1 if last_step is None else last_step
        self._pruned: optuna.TrialPruned | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking or trainer.current_epoch < self.reported:
            return
        logged(trainer, self.monitor)
        try:
            if trainer.current_epoch > self.reported:
                super().on_validation_end(trainer, pl_module)
            elif self._trial.should_prune():
                raise optuna.TrialPruned(f"Trial was pruned at epoch {trainer.current_epoch}.")
        except optuna.TrialPruned as pruned:
            self._pruned = pruned
            trainer.should_stop = True

    def check(self) -> None:
        """Raise `TrialPruned` if the run was stopped for it; call it after `fit`."""
        if self._pruned is not None:
            raise self._pruned


class ProgressCallback(Callback):
    """Tells of every batch that is done."""

    def __init__(self, progress: Callable[[], None]) -> None:
        self._progress = progress

    def tell(self, *_: Any) -> None:
        self._progress()

    def on_train_batch_end(self, *_: Any) -> None:
        self._progress()

    def on_validation_batch_end(self, *_: Any) -> None:
        self._progress()


def attributes(outcome: FitResult) -> dict[str, Any]:
    """What a trial stores of its outcome beside its value."""
    return {
        "best_epoch": outcome.best_epoch,
        "epochs": outcome.epochs,
        "seconds": round(outcome.seconds, 4),
    }


def run_trial(
    queue: TrialQueue,
    claim: Claim,
    task: Task,
    *,
    layers: FrozenPrefix | None = None,
    arithmetic: ComputeFormat = PLAIN,
    progress: Callable[[], None] = lambda: None,
) -> Failure | None:
    """Run one claimed trial to its end and store it; what raised an error is returned instead, with the reason.

    It goes on from the checkpoint of a process that died with it. `progress` is called when a batch is done: of
    training, of validation, of the test, or of what frozen layers make. It may end the run by an exception that is no
    `Exception`, which comes out here, as does `LeaseLost`; the checkpoint then stays for whoever runs the trial next.
    """
    sweep(queue.location, claim.study)
    report = PruningCallback(claim.trial, task.spec.task.metric)
    checkpoint = TrialCheckpoint(
        queue.location,
        claim.trial,
        reported=report.reported,
        made_by=(claim.study.study_name, claim.trial.number, repr(claim.strategy), claim.repeat, str(arithmetic)),
        note=lambda name: queue.note(claim, {"checkpoint": name}),
    )
    # At once, so that a trial whose process dies has them too.
    queue.note(
        claim,
        {
            "size": claim.size,
            "repeat": claim.repeat,
            "seed": task.seed(claim.repeat),
            "family": str(claim.strategy.family(queue.num_groups)),
            "trainable_parameters": task.trainable_parameters(claim.strategy),
        },
    )
    ticks = ProgressCallback(progress)
    if layers is not None:
        layers.progress = progress
    try:
        outcome = checkpoint.resuming(
            lambda: train(
                task,
                claim.strategy,
                size=claim.size,
                repeat=claim.repeat,
                callbacks=[report, ticks],
                keep_best=claim.confirms,
                layers=layers,
                arithmetic=arithmetic,
                checkpoint=checkpoint,
            )
        )
        with outcome.model.register_forward_hook(ticks.tell):
            state, known = _ended(queue, claim, task, outcome, report, progress)
    except (LeaseLost, StorageInternalError):  # no fault of the trial
        raise
    except Exception as error:
        traceback.print_exc()
        checkpoint.remove()
        curve = queue.storage.get_trial(claim.trial._trial_id).intermediate_values
        best = max if task.spec.task.direction == "maximize" else min
        return Failure(
            claim=claim,
            reason=_reason(error),
            attributes={
                "epochs": len(curve),
                "best_epoch": best(curve, key=lambda epoch: curve[epoch]) if curve else None,
                "seconds": round(checkpoint.seconds, 4),
            },
        )
    queue.finish(claim, state, known, value=outcome.value if state == TrialState.COMPLETE else None)
    checkpoint.remove()
    return None


def _ended(
    queue: TrialQueue,
    claim: Claim,
    task: Task,
    outcome: FitResult,
    report: PruningCallback,
    progress: Callable[[], None],
) -> tuple[TrialState, dict[str, Any]]:
    """How a run that raised no error has ended, and what is known of it; a confirm trial's test is part of that."""
    known = attributes(outcome)
    try:
        report.check()
    except optuna.TrialPruned:
        return TrialState.PRUNED, known
    if not math.isfinite(outcome.value):
        return TrialState.FAIL, {**known, "reason": f"{task.spec.task.metric} was finite in no epoch"}
    if claim.confirms:
        scores = score_on_test(outcome.model, outcome.test(task), batch_size=eval_batch(task.spec.train.batch_size))
        saved = when_there_is_room(
            lambda: _save_outcomes(queue.location, claim.trial.number, scores, task.data),
            patience=PATIENCE,
            say=queue.say,
            meanwhile=progress,
        )
        known |= {**scores.values, "predictions_file": saved}
    return TrialState.COMPLETE, known


def _reason(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    message = " ".join(str(error).split())[:500]
    return f"{type(error).__name__}: {message} ({os.path.basename(frame.filename)}:{frame.lineno})"


def _save_outcomes(location: StudyLocation, number: int, scores: Scores, data: TaskData) -> str:
    test = describe_test(data.test.inputs, data.test.targets, data.classes)
    return save_predictions(
        location, number, example_scores=scores.example_scores.numpy(), predicted=scores.predicted.numpy(), test=test
    )
