"""Training: one Lightning run of one strategy, on one repeat, at one size."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from search.activations.frozen_prefix import FrozenPrefix
from search.activations.reader import Reader, reader_of
from search.data.batches import eval_loader, train_loader
from search.data.examples import Examples
from search.device import PLAIN, ComputeFormat, eval_batch
from search.seeds import seeded
from search.task.task import Task
from search.training.checkpoint import RngState, TrialCheckpoint
from search.training.module import TaskModule, predict
from search.training.scoring import Scores, score
from search.training.trainer import build_optimizer, lean_trainer, with_optimizer
from strategies import FreezingCallback, FreezingStrategy, LayerGroup, layer_groups, param_groups


class BestEpoch(Callback):
    """The best epoch by the metric that steers, and, where asked for, the weights it had: of those that ever train."""

    def __init__(self, metric: str, *, maximize: bool, keep_weights: bool) -> None:
        self.metric = metric
        self.sign = 1.0 if maximize else -1.0
        self.keep_weights = keep_weights
        self.epoch: int | None = None
        self.value = math.nan
        self.weights: dict[str, Tensor] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "value": self.value, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epoch, self.value, self.weights = (state_dict[key] for key in ("epoch", "value", "weights"))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        value = logged(trainer, self.metric)
        if not math.isfinite(value) or (self.epoch is not None and self.sign * value <= self.sign * self.value):
            return
        self.epoch, self.value = trainer.current_epoch, value
        if self.keep_weights:
            groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
            held = {parameter for group in groups for parameter in group["params"]}
            still = {name for name, parameter in pl_module.named_parameters() if parameter not in held}
            state = pl_module.state_dict()
            self.weights = {name: tensor.detach().clone() for name, tensor in state.items() if name not in still}


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
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
    repeat: int,
    callbacks: Sequence[Callback] = (),
    keep_best: bool = False,
    layers: FrozenPrefix | None = None,
    arithmetic: ComputeFormat = PLAIN,
    checkpoint: TrialCheckpoint | None = None,
) -> FitResult:
    """Train one strategy on one repeat's subset, with those callbacks beside ours.

    With `layers` what is frozen is not run again: the losses are the same but for the last digits. With `checkpoint`
    the run goes on from what an earlier process left there, if any, to the outcome it would have had.
    """
    spec = task.spec
    started = time.perf_counter()
    model, groups, reader = _built(task, strategy, size=size, repeat=repeat, layers=layers, arithmetic=arithmetic)
    train_examples, validation_examples = reader.parts if reader is not None else task.split(repeat=repeat, size=size)
    best = BestEpoch(spec.task.metric, maximize=spec.task.direction == "maximize", keep_weights=keep_best)
    trainer = lean_trainer(
        spec.train,
        epochs=spec.train.epochs,
        callbacks=[RngState(), FreezingCallback(strategy, groups=groups), best, *callbacks],
        precision="bf16-mixed" if task.parts.module is not None and arithmetic.bfloat16 else "32-true",
    )
    resumed = checkpoint.attached(trainer) if checkpoint is not None else None
    seed = task.seed(repeat)
    batches = train_loader(train_examples, batch_size=spec.train.batch_size, steps=spec.train.steps, seed=seed)
    held_out = eval_loader(
        validation_examples, batch_size=eval_batch(spec.train.batch_size), epoch=lambda: batches.sampler.epoch
    )
    with seeded(seed):
        trainer.fit(model, batches, held_out, ckpt_path=resumed, weights_only=True)
    if best.weights is not None:
        model.load_state_dict(best.weights, strict=False)
    return FitResult(
        value=best.value,
        best_epoch=best.epoch,
        epochs=trainer.current_epoch,
        seconds=time.perf_counter() - started if checkpoint is None else checkpoint.seconds,
        model=model,
        reader=reader,
    )


def _built(
    task: Task,
    strategy: FreezingStrategy,
    *,
    size: int,
    repeat: int,
    layers: FrozenPrefix | None,
    arithmetic: ComputeFormat,
) -> tuple[LightningModule, list[LayerGroup], Reader | None]:
    """The run's fresh module with its optimizer, its backbone's layer groups, and what it reads but the examples."""
    backbone, head, own = task.start(strategy, repeat=repeat)
    reader = reader_of(layers, strategy, backbone, repeat=repeat, size=size) if layers is not None else None
    arithmetic.apply_memory_format(backbone)
    groups = layer_groups(backbone, groups=task.spec.model.groups)
    # What never trains has no rate, and would only be passed over at every step.
    rated = [group for group in param_groups(backbone, head, strategy, groups=groups) if group["lr"] > 0]
    optimizer = build_optimizer(task.spec.train, rated)
    if own is not None:
        return with_optimizer(own, optimizer), groups, reader
    stages = reader.stages if reader is not None else None
    model = TaskModule(backbone, head, optimizer=optimizer, stages=stages, arithmetic=arithmetic)
    return model, groups, reader


def score_on_test(model: LightningModule, test: Examples, *, batch_size: int) -> Scores:
    """What the model's predictions on the test set are worth."""
    return score(predict(model, test, batch_size=batch_size), test.targets)


def logged(trainer: Trainer, metric: str) -> float:
    """The metric's value in the epoch; `ValueError` where the module does not log it."""
    if metric not in trainer.callback_metrics:
        known = ", ".join(sorted(trainer.callback_metrics)) or "none"
        raise ValueError(f"The metric {metric!r} is not logged; logged: {known}.")
    return trainer.callback_metrics[metric].item()
