"""A lean Lightning Trainer, and a user's own module in it."""

from collections.abc import Sequence
from types import MethodType

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from torch.optim import Optimizer

from search.spec.tables import Train


def with_optimizer(module: LightningModule, optimizer: Optimizer, *, validates: bool = True) -> LightningModule:
    """Give a user's own module the strategy's optimizer, and take its `val_dataloader`.

    Lightning would call that where a split has no validation examples. Its steps and metrics stay.

    validates: there are some. Without them it loses `EarlyStopping`, too, which would wait for a score.
    """
    module.val_dataloader = MethodType(LightningModule.val_dataloader, module)  # type: ignore[method-assign]
    module.configure_optimizers = lambda: optimizer  # type: ignore[method-assign]
    return without_checkpoints(module, *(() if validates else (EarlyStopping,)))


def without_checkpoints(module: LightningModule, *others: type[Callback]) -> LightningModule:
    """Leave a module its callbacks, except `Checkpoint`s and others.

    The former would write into the working directory at every trial.
    """
    kept = [callback for callback in callbacks_of(module) if not isinstance(callback, (Checkpoint, *others))]
    module.configure_callbacks = lambda: kept  # type: ignore[method-assign]
    return module


def callbacks_of(module: LightningModule) -> list[Callback]:
    """Return the callbacks that a module brings."""
    brought = module.configure_callbacks()
    return [brought] if isinstance(brought, Callback) else [*brought]


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
