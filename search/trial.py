"""One trial: one Lightning run of one strategy, on one chain, at one size."""

import math
import os
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from lightning.pytorch import Callback, LightningModule, Trainer
from optuna.trial import TrialState
from optuna_integration import PyTorchLightningPruningCallback
from torch import Tensor

from search.frozen import FrozenLayers
from search.home import Home
from search.predictions import save_outcomes
from search.reading import Reader, reader_of
from search.scoring import Scores, describe_test, score
from search.study import Claim, Failure, TrialQueue
from search.tasks.data import Examples, TaskData
from search.tasks.loading import eval_loader, train_loader
from search.tasks.module import (
    PLAIN,
    Arithmetic,
    TaskModule,
    build_optimizer,
    eval_batch,
    lean_trainer,
    predict,
    with_optimizer,
)
from search.tasks.seeds import seeded
from search.tasks.task import Task
from strategies import FreezingCallback, FreezingStrategy, layer_groups, param_groups


class PruningCallback(PyTorchLightningPruningCallback):
    """Optuna's callback, made to end a run instead of breaking out of it.

    The stock one raises inside the hook, so that epoch's other callbacks, `on_train_end` and `teardown` never
    run; a missing metric only warns, and the trial is then never pruned; and a trial that starts again after
    its process died would be judged by what it had reported before. This one asks the Trainer to stop and
    leaves it to the caller to raise (`check`), insists on the metric, and passes over steps already reported.
    """

    def __init__(self, trial: optuna.Trial, monitor: str) -> None:
        super().__init__(trial, monitor)
        last_step = trial.storage.get_trial(trial._trial_id).last_step
        self._reported = -1 if last_step is None else last_step
        self._pruned: optuna.TrialPruned | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking or trainer.current_epoch <= self._reported:
            return
        _logged(trainer, self.monitor)
        try:
            super().on_validation_end(trainer, pl_module)
        except optuna.TrialPruned as pruned:
            self._pruned = pruned
            trainer.should_stop = True

    def check(self) -> None:
        """Raise `TrialPruned` if the run was stopped for it; call it after `fit`."""
        if self._pruned is not None:
            raise self._pruned


class BestEpoch(Callback):
    """The best epoch by the metric that steers, and, where asked for, the weights it had: of those that ever train."""

    def __init__(self, metric: str, *, maximize: bool, keep_weights: bool) -> None:
        self.metric = metric
        self.sign = 1.0 if maximize else -1.0
        self.keep_weights = keep_weights
        self.epoch: int | None = None
        self.value = math.nan
        self.weights: dict[str, Tensor] | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        value = _logged(trainer, self.metric)
        if not math.isfinite(value) or (self.epoch is not None and self.sign * value <= self.sign * self.value):
            return
        self.epoch, self.value = trainer.current_epoch, value
        if self.keep_weights:
            groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
            held = {parameter for group in groups for parameter in group["params"]}
            still = {name for name, parameter in pl_module.named_parameters() if parameter not in held}
            state = pl_module.state_dict()
            self.weights = {name: tensor.detach().clone() for name, tensor in state.items() if name not in still}


def _logged(trainer: Trainer, metric: str) -> float:
    if metric not in trainer.callback_metrics:
        known = ", ".join(sorted(trainer.callback_metrics)) or "none"
        raise ValueError(f"The metric {metric!r} is not logged; logged: {known}.")
    return trainer.callback_metrics[metric].item()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run came to: its value is its best epoch's, and `model` has that epoch's weights if they were kept.

    reader: what it read, where that was more than the examples.
    """

    value: float
    best_epoch: int | None
    epochs: int
    seconds: float
    model: LightningModule
    reader: Reader | None = None

    def test(self, task: Task) -> Examples:
        """The test examples, as the best epoch's weights take them."""
        if self.reader is None or self.best_epoch is None:
            return task.data.test
        return self.reader.test(self.best_epoch)


def train(
    task: Task,
    strategy: FreezingStrategy,
    *,
    size: int,
    chain: int,
    callbacks: Sequence[Callback] = (),
    keep_best: bool = False,
    layers: FrozenLayers | None = None,
    arithmetic: Arithmetic = PLAIN,
) -> Outcome:
    """Train one strategy on one chain's subset, with those callbacks beside ours.

    With `layers` what is frozen is not run again: the losses are the same but for the last digits.
    """
    spec = task.spec
    started = time.perf_counter()
    backbone, head, own = task.start(strategy, chain=chain)
    reader = reader_of(layers, strategy, backbone, chain=chain, size=size) if layers is not None else None
    arithmetic.lay_out(backbone)
    groups = layer_groups(backbone, groups=spec.model.groups)
    # What never trains has no rate, and would only be passed over at every step.
    rated = [group for group in param_groups(backbone, head, strategy, groups=groups) if group["lr"] > 0]
    optimizer = build_optimizer(spec.train, rated)
    if own is None:
        stages = reader.stages if reader is not None else None
        model: LightningModule = TaskModule(backbone, head, optimizer=optimizer, stages=stages, arithmetic=arithmetic)
    else:
        model = with_optimizer(own, optimizer)
    train_examples, validation_examples = reader.parts if reader is not None else task.split(chain=chain, size=size)
    best = BestEpoch(spec.task.metric, maximize=spec.task.direction == "maximize", keep_weights=keep_best)
    trainer = lean_trainer(
        spec.train,
        epochs=spec.train.epochs,
        callbacks=[FreezingCallback(strategy, groups=groups), best, *callbacks],
        precision="bf16-mixed" if own is not None and arithmetic.bfloat16 else "32-true",
    )
    seed = task.seed(chain)
    batches = train_loader(train_examples, batch_size=spec.train.batch_size, steps=spec.train.steps, seed=seed)
    held_out = eval_loader(validation_examples, batch_size=eval_batch(spec.train), epoch=lambda: batches.sampler.epoch)
    with seeded(seed):
        trainer.fit(model, batches, held_out)
    if best.weights is not None:
        model.load_state_dict(best.weights, strict=False)
    return Outcome(
        value=best.value,
        best_epoch=best.epoch,
        epochs=trainer.current_epoch,
        seconds=time.perf_counter() - started,
        model=model,
        reader=reader,
    )


def score_on_test(model: LightningModule, test: Examples, *, batch_size: int) -> Scores:
    """What the model's predictions on the test set are worth."""
    return score(predict(model, test, batch_size=batch_size), test.targets)


def attributes(outcome: Outcome) -> dict[str, Any]:
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
    layers: FrozenLayers | None = None,
    arithmetic: Arithmetic = PLAIN,
) -> Failure | None:
    """Run one claimed trial to its end and store it; what raised an error is returned instead, with the reason."""
    started = time.perf_counter()
    # At once, so that a trial whose process dies has them too.
    queue.note(
        claim,
        {
            "size": claim.size,
            "chain": claim.chain,
            "seed": task.seed(claim.chain),
            "family": str(claim.strategy.family(queue.num_groups)),
            "trainable_parameters": task.trainable_parameters(claim.strategy),
        },
    )
    try:
        report = PruningCallback(claim.trial, task.spec.task.metric)
        outcome = train(
            task,
            claim.strategy,
            size=claim.size,
            chain=claim.chain,
            callbacks=[report],
            keep_best=claim.confirms,
            layers=layers,
            arithmetic=arithmetic,
        )
        known = attributes(outcome)
        try:
            report.check()
        except optuna.TrialPruned:
            queue.finish(claim, TrialState.PRUNED, known)
            return None
        if not math.isfinite(outcome.value):
            reason = f"{task.spec.task.metric} was finite in no epoch"
            queue.finish(claim, TrialState.FAIL, {**known, "reason": reason})
            return None
        if claim.confirms:
            scores = score_on_test(outcome.model, outcome.test(task), batch_size=eval_batch(task.spec.train))
            known |= {**scores.values, "outcomes": _save_outcomes(queue.home, claim.trial.number, scores, task.data)}
    except Exception as error:
        traceback.print_exc()
        curve = queue.storage.get_trial(claim.trial._trial_id).intermediate_values
        best = max if task.spec.task.direction == "maximize" else min
        return Failure(
            claim=claim,
            reason=_reason(error),
            attributes={
                "epochs": len(curve),
                "best_epoch": best(curve, key=lambda epoch: curve[epoch]) if curve else None,
                "seconds": round(time.perf_counter() - started, 4),
            },
        )
    queue.finish(claim, TrialState.COMPLETE, known, value=outcome.value)
    return None


def _reason(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    message = " ".join(str(error).split())[:500]
    return f"{type(error).__name__}: {message} ({os.path.basename(frame.filename)}:{frame.lineno})"


def _save_outcomes(home: Home, number: int, scores: Scores, data: TaskData) -> str:
    test = describe_test(data.test.inputs, data.test.targets, data.classes)
    return save_outcomes(home, number, outcome=scores.outcome.numpy(), predicted=scores.predicted.numpy(), test=test)
