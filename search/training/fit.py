"""Training: one Lightning run of one strategy, on one repeat, at one size."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
import torch
from lightning.pytorch import Callback, LightningModule
from optuna.trial import TrialState

from search.activations.frozen_prefix import FrozenPrefix
from search.activations.reader import Reader, reader_of
from search.data.batches import EvalLoader, TrainLoader, train_loader
from search.data.splits import Split
from search.device import PLAIN, ComputeFormat, eval_batch
from search.seeds import seeded
from search.study.result import TrialResult
from search.task.optimizers import build_optimizer
from search.task.task import Task
from search.training.callbacks import MetricCurve, ProgressCallback, PruningCallback, RngState
from search.training.checkpoint import TrialCheckpoint
from search.training.module import Scaling, TaskModule, predict
from search.training.own_steps import computed, own_scores
from search.training.scoring import describe_test, score, validation_scores
from search.training.trainer import lean_trainer, with_optimizer
from strategies import FreezingCallback, FreezingStrategy, LayerGroup, layer_groups, param_groups


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult(TrialResult):
    """A run's result with its model, as the last epoch left it.

    reader: the cached activations that the run read; None if it read the examples themselves.
    """

    model: LightningModule
    reader: Reader | None


def fit(
    task: Task,
    strategy: FreezingStrategy,
    *,
    size: int,
    repeat: int,
    trial: optuna.Trial | None = None,
    checkpoint: TrialCheckpoint | None = None,
    test: bool = False,
    frozen_prefix: FrozenPrefix | None = None,
    compute_format: ComputeFormat = PLAIN,
    progress: Callable[[], None] = lambda: None,
    callbacks: Sequence[Callback] = (),
) -> FitResult:
    """Train one strategy on one repeat's training examples, to the last epoch.

    trial: gets each epoch's value, and its study's pruner may stop the run.
    checkpoint: where an interrupted run resumes, to the result it would have had.
    test: score the model on the repeat's test examples, unless the run was pruned.
    frozen_prefix: frozen layers whose outputs are cached; losses differ in the last digits only.
    progress: is called after each batch of training, validation and test.
    callbacks: run after those of the fit itself.

    Raises `ValueError` if a module of the user's own does not log the study's metric.
    """
    spec, started = task.spec, time.perf_counter()
    while True:  # runs twice only if the checkpoint was unusable
        model, groups, reader = _build(
            task, strategy, size=size, repeat=repeat, frozen_prefix=frozen_prefix, compute_format=compute_format
        )
        split = task.split(repeat=repeat, size=size)
        own_metric = computed(task, task.take(split.validate)) if task.metric.own and len(split.validate) else None
        curve = MetricCurve(task.metric.validated, compute=own_metric)
        pruning = [] if trial is None else [PruningCallback(trial, curve)]
        own: list[Callback] = [
            RngState(),
            FreezingCallback(strategy, groups=groups),
            curve,
            *pruning,
            ProgressCallback(progress),
        ]
        trainer = lean_trainer(
            spec.train,
            epochs=spec.train.epochs,
            callbacks=[*own, *callbacks],
            bfloat16=task.parts.module is not None and compute_format.bfloat16,
        )
        resumed = None
        if checkpoint is not None:
            resumed = checkpoint.attach(trainer, made_by=(repr(strategy), repeat, str(compute_format)))
        try:
            with seeded(task.seed(repeat)):
                trainer.fit(model, *_loaders(task, reader, split, repeat=repeat), ckpt_path=resumed, weights_only=True)
            break
        except Exception as error:
            if checkpoint is None or not checkpoint.discard(error):
                raise
    seconds = time.perf_counter() - started if checkpoint is None else checkpoint.seconds
    pruned = any(callback.pruned for callback in pruning)
    tested: dict[str, Any] = {}
    if test and not pruned:
        tested = _score(model, reader, task, split, repeat=repeat, compute_format=compute_format, progress=progress)
    value = tested["scores"].get(task.metric.attribute, math.nan) if tested else curve.value
    state, reason = TrialState.COMPLETE, None
    if pruned:
        state = TrialState.PRUNED
    elif not math.isfinite(value):
        state, reason = TrialState.FAIL, f"{task.metric.name} was not finite at the end of training"
    return FitResult(
        state=state,
        value=value,
        epochs=trainer.current_epoch,
        seconds=seconds,
        reason=reason,
        model=model,
        reader=reader,
        **tested,
    )


def _build(
    task: Task,
    strategy: FreezingStrategy,
    *,
    size: int,
    repeat: int,
    frozen_prefix: FrozenPrefix | None,
    compute_format: ComputeFormat,
) -> tuple[LightningModule, list[LayerGroup], Reader | None]:
    """Build a fresh module, its backbone's layer groups, and the reader of cached activations."""
    backbone, head, own = task.build(strategy, repeat=repeat)
    reader = None if frozen_prefix is None else reader_of(frozen_prefix, strategy, backbone, repeat=repeat, size=size)
    compute_format.apply_memory_format(backbone)
    groups = layer_groups(backbone, groups=task.spec.model.groups, head=head)
    # A group that never trains has no rate; in the optimizer it would only cost time at every step.
    rated = [group for group in param_groups(backbone, head, strategy, groups=groups) if group["lr"] > 0]
    optimizer = build_optimizer(task.spec.train, rated)
    if own is not None:
        validates = len(task.split(repeat=repeat, size=size).validate) > 0
        return with_optimizer(own, optimizer, validates=validates), groups, reader
    partial_backbone = None if reader is None else reader.partial_backbone
    model = TaskModule(
        backbone,
        head,
        optimizer=optimizer,
        partial_backbone=partial_backbone,
        compute_format=compute_format,
        metric=task.metric.name,
        scaling=scaling_of(task, size=size, repeat=repeat),
    )
    return model, groups, reader


def scaling_of(task: Task, *, size: int, repeat: int) -> Scaling:
    """Return the scaling of targets by a repeat's training examples."""
    drawn = torch.from_numpy(task.split(repeat=repeat, size=size).train)
    return Scaling.of(task.data.pool.targets[drawn], classes=task.data.classes, wanted=task.spec.train.class_weight)


def _loaders(task: Task, reader: Reader | None, split: Split, *, repeat: int) -> tuple[TrainLoader, EvalLoader | None]:
    """Return the loaders of training examples and, if there are any, validation examples."""
    settings, seed = task.spec.train, task.seed(repeat)
    train, validation = (task.take(split.train), task.take(split.validate)) if reader is None else reader.split
    batches = train_loader(train, batch_size=settings.batch_size, steps=settings.steps, seed=seed)
    if not len(split.validate):
        return batches, None
    batch_size = eval_batch(settings.batch_size)
    return batches, EvalLoader(validation, batch_size=batch_size, epoch=lambda: batches.sampler.epoch)


def _score(
    model: LightningModule,
    reader: Reader | None,
    task: Task,
    split: Split,
    *,
    repeat: int,
    compute_format: ComputeFormat,
    progress: Callable[[], None],
) -> dict[str, Any]:
    """Return a model's `scores` and `predictions` on the test examples, as in a `TrialResult`."""
    test = task.take(split.test) if reader is None else reader.test(task.spec.train.epochs - 1)
    groups = None if split.groups is None else torch.from_numpy(split.groups[split.test])
    if task.metric.own:
        values, scores = own_scores(
            model, test, task, repeat=repeat, groups=groups, compute_format=compute_format, progress=progress
        )
    else:
        assert isinstance(model, TaskModule)
        outputs = predict(model, test, batch_size=eval_batch(task.spec.train.batch_size), progress=progress)
        scores = score(outputs, test.targets, metric=task.metric, groups=groups)
        values = scores.values
        if model.validated is not None:
            values = values | validation_scores(*model.validated)
    if scores is None:
        return {"scores": values}
    judging = task.data.pool if task.data.cross_validated else task.data.test
    predictions = {
        "example_scores": scores.example_scores.numpy(),
        "predicted": scores.predicted.numpy(),
        "tested": split.test - task.splits.first_judging,
        "test": describe_test(judging, task.data.classes),
    }
    return {"scores": values, "predictions": predictions}
