"""The Lightning module that every run of ours trains, and the lean Trainer it runs in."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from search.spec import Train
from search.tasks.data import Examples
from search.tasks.loading import EVAL_BATCH

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "sgd": lambda groups, **options: torch.optim.SGD(groups, momentum=0.9, **options),
}


class Classifier(LightningModule):
    """A backbone (inputs -> features (N, F)) and a head (features -> logits (N, classes))."""

    def __init__(self, backbone: nn.Module, head: nn.Module, *, optimizer: Optimizer) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self._optimizer = optimizer

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.backbone(inputs))  # type: ignore[no-any-return]

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        inputs, targets = batch
        return cross_entropy(self(inputs), targets)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        inputs, targets = batch
        logits = self(inputs)
        loss = cross_entropy(logits, targets)
        accuracy = (logits.argmax(1) == targets).float().mean()
        # A model that has diverged still guesses; its accuracy must not pass for one.
        accuracy = torch.where(loss.isfinite(), accuracy, torch.nan)
        self.log_dict(
            {"val_loss": loss, "val_accuracy": accuracy},
            batch_size=len(targets),
        )

    def configure_optimizers(self) -> Optimizer:
        return self._optimizer


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


def predict(model: Classifier, examples: Examples) -> Tensor:
    """Logits (N, classes) of a trained model in `eval()`, on the CPU."""
    model.eval()
    with torch.no_grad():
        batches = [model(batch.to(model.device)).cpu() for batch in torch.split(examples.inputs, EVAL_BATCH)]
    return torch.cat(batches)
