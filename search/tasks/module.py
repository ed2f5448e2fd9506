"""The Lightning module that every run of ours trains, and the lean Trainer it runs in."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.optim import Optimizer

from search.spec import Train
from search.tasks.data import Examples
from search.tasks.loading import eval_loader
from search.tasks.models import Tensors

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "sgd": lambda groups, **options: torch.optim.SGD(groups, momentum=0.9, **options),
}


class TaskModule(LightningModule):
    """A backbone (inputs -> features (N, F)) and a head: features -> logits (N, classes), or values (N, K).

    Targets of whole numbers make it a classifier (cross entropy), others a regressor (mean squared error).
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, *, optimizer: Optimizer) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self._optimizer = optimizer

    def forward(self, inputs: Tensors) -> Tensor:
        return self.head(self.backbone(inputs))  # type: ignore[no-any-return]

    def training_step(self, batch: tuple[Tensors, Tensor], index: int) -> Tensor:
        inputs, targets = batch
        return loss_of(self(inputs), targets)

    def validation_step(self, batch: tuple[Tensors, Tensor], index: int) -> None:
        inputs, targets = batch
        outputs = self(inputs)
        loss = loss_of(outputs, targets)
        metrics = {"val_loss": loss}
        if not targets.is_floating_point():
            accuracy = (outputs.argmax(1) == targets).float().mean()
            # A model that has diverged still guesses; its accuracy must not pass for one.
            metrics["val_accuracy"] = torch.where(loss.isfinite(), accuracy, torch.nan)
        self.log_dict(metrics, batch_size=len(targets))

    def configure_optimizers(self) -> Optimizer:
        return self._optimizer


def loss_of(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of logits (N, C) and classes (N,), or mean squared error of values (N, K) and (N,) or (N, K)."""
    if targets.is_floating_point():
        return mse_loss(outputs, targets.reshape(outputs.shape))
    return cross_entropy(outputs, targets)


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
    """The study's optimizer over parameter groups that bring their own learning rates."""
    return OPTIMIZERS[train.optimizer](groups, weight_decay=train.weight_decay)


def lean_trainer(train: Train, *, epochs: int, callbacks: Sequence[Callback] = ()) -> Trainer:
    """A Trainer without logger, checkpoints, bars, summaries and the sanity run: 6 ms a fit, 2 ms an epoch."""
    return Trainer(
        max_epochs=epochs,
        accelerator=train.accelerator,
        devices=1,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def eval_batch(train: Train) -> int:
    """Examples a batch where nothing is kept for a backward pass."""
    return 8 * train.batch_size


def predict(model: LightningModule, examples: Examples, *, batch_size: int) -> Tensor:
    """Logits (N, classes) or values (N, K) of a trained model in `eval()`, on the CPU."""
    model.eval()
    outputs = []
    with torch.no_grad():
        for inputs, _ in eval_loader(examples, batch_size=batch_size):
            moved = {k: v.to(model.device) for k, v in inputs.items()} if isinstance(inputs, dict) else inputs
            outputs.append(model(moved.to(model.device) if isinstance(moved, Tensor) else moved).cpu())
    return torch.cat(outputs)
