"""Lightning's Trainer without what a trial does not need, and the optimizers by name."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch.optim import Optimizer

from search.spec.tables import Train

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "sgd": lambda groups, **options: torch.optim.SGD(groups, momentum=0.9, **options),
}


def with_optimizer(module: LightningModule, optimizer: Optimizer) -> LightningModule:
    """The user's own module, its steps and metrics untouched, trained by the optimizer of the strategy.

    Its own callbacks come along, but for those that write a checkpoint a trial into the working directory.
    """
    brought = module.configure_callbacks()
    callbacks = [brought] if isinstance(brought, Callback) else [*brought]
    kept = [callback for callback in callbacks if not isinstance(callback, Checkpoint)]
    module.configure_callbacks = lambda: kept  # type: ignore[method-assign]
    module.configure_optimizers = lambda: optimizer  # type: ignore[method-assign]
    return module


def build_optimizer(train: Train, groups: Any) -> Optimizer:
    """The study's optimizer over parameter groups that bring their own learning rates, in its fused implementation.

    Fused, a step of AdamW is one kernel a group: of a ResNet-18's training on a CPU that takes off a tenth. It rounds
    otherwise than torch's default, so who trains on with a saved strategy to the same digits says `fused=True` too.
    """
    return OPTIMIZERS[train.optimizer](groups, weight_decay=train.weight_decay, fused=True)


def lean_trainer(
    train: Train,
    *,
    epochs: int,
    callbacks: Sequence[Callback] = (),
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
) -> Trainer:
    """A Trainer without logger, checkpoints, bars, summaries and the sanity run: 6 ms a fit, 2 ms an epoch."""
    return Trainer(
        max_epochs=epochs,
        accelerator=train.accelerator,
        devices=1,
        # Inside a SLURM job Lightning would take its tasks for the ranks of one run, and its signals for its own.
        plugins=[LightningEnvironment()],
        precision=precision,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
