"""A lean Lightning Trainer, and the optimizers by name."""

from collections.abc import Callable, Sequence
from typing import Any

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
    """Give a user's own module the strategy's optimizer; its steps and metrics stay."""
    module.configure_optimizers = lambda: optimizer  # type: ignore[method-assign]
    return without_checkpoints(module)


def without_checkpoints(module: LightningModule) -> LightningModule:
    """Leave a module its callbacks, except `Checkpoint`s.

    They would write into the working directory at every trial.
    """
    brought = module.configure_callbacks()
    callbacks = [brought] if isinstance(brought, Callback) else [*brought]
    kept = [callback for callback in callbacks if not isinstance(callback, Checkpoint)]
    module.configure_callbacks = lambda: kept  # type: ignore[method-assign]
    return module


def build_optimizer(train: Train, groups: Any) -> Optimizer:
    """Build the study's fused optimizer over parameter groups with their own learning rates.

    Fused AdamW takes a tenth off a ResNet-18's training on a CPU. It rounds otherwise than torch's default, so
    training a saved strategy to the same digits takes `fused=True` as well.
    """
    return OPTIMIZERS[train.optimizer](groups, weight_decay=train.weight_decay, fused=True)


def lean_trainer(
    train: Train,
    *,
    epochs: int,
    callbacks: Sequence[Callback] = (),
    bfloat16: bool = False,
) -> Trainer:
    """Build a Trainer without logger, checkpoints, bars, summaries and sanity run.

    It costs 6 ms a fit and 2 ms an epoch.
    """
    return Trainer(
        max_epochs=epochs,
        accelerator=train.accelerator,
        devices=1,
        # In a SLURM job Lightning would treat the tasks as ranks of one run, and handle SLURM's signals.
        plugins=[LightningEnvironment()],
        precision="bf16-mixed" if bfloat16 else "32-true",
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
