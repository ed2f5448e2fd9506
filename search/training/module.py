"""The Lightning module that every run of ours trains, and the lean Trainer it runs in."""

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.optim import Optimizer

from search.activations.boundaries import PartialBackbone, PartialInputs
from search.data.batches import eval_loader
from search.data.examples import Examples, Tensors
from search.device import PLAIN, ComputeFormat


class TaskModule(LightningModule):
    """A backbone (inputs -> features (N, F)) and a head: features -> logits (N, classes), or values (N, K).

    Targets of whole numbers make it a classifier (cross entropy), others a regressor (mean squared error).
    With `stages`, inputs may be `PartialInputs`: what the frozen groups of the backbone have made of them.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        *,
        optimizer: Optimizer,
        stages: PartialBackbone | None = None,
        arithmetic: ComputeFormat = PLAIN,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self._optimizer = optimizer
        self._stages = stages
        self._arithmetic = arithmetic

    def forward(self, inputs: Tensors | PartialInputs) -> Tensor:
        with self._arithmetic.autocast(self.device):
            if isinstance(inputs, PartialInputs):
                assert self._stages is not None
                features = self._stages.onward(inputs)
            else:
                features = self.backbone(inputs)
        return self.head(features.float())  # type: ignore[no-any-return]

    def training_step(self, batch: tuple[Tensors | PartialInputs, Tensor], index: int) -> Tensor:
        inputs, targets = batch
        return loss_of(self(inputs), targets)

    def validation_step(self, batch: tuple[Tensors | PartialInputs, Tensor], index: int) -> None:
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


def predict(model: LightningModule, examples: Examples, *, batch_size: int) -> Tensor:
    """Logits (N, classes) or values (N, K) of a trained model in `eval()`, on the CPU."""
    model.eval()
    with torch.no_grad():
        loader = eval_loader(examples, batch_size=batch_size)
        return torch.cat([model(move_data_to_device(inputs, model.device)).cpu() for inputs, _ in loader])
