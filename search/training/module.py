"""The Lightning module of a backbone and a head, its loss, and its predictions."""

from collections.abc import Callable

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.optim import Optimizer

from search.activations.boundaries import PartialBackbone, PartialInputs
from search.data.batches import EvalLoader
from search.data.examples import Examples, Tensors
from search.device import PLAIN, ComputeFormat
from search.training.scoring import evaluate
from search.verdict.metric import METRICS


class TaskModule(LightningModule):
    """A classifier or regressor of a backbone and a head.

    backbone: inputs -> features (N, F).
    head: features -> logits (N, classes), or values (N, K).
    partial_backbone: lets inputs be `PartialInputs`, outputs of the backbone's frozen groups.

    metric: the word of a metric that is logged, as "val_<metric>", beside loss and accuracy.

    The loss is cross entropy for integer targets, else mean squared error.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        *,
        optimizer: Optimizer,
        partial_backbone: PartialBackbone | None = None,
        compute_format: ComputeFormat = PLAIN,
        metric: str = "loss",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self._optimizer = optimizer
        self._partial_backbone = partial_backbone
        self._compute_format = compute_format
        self._metric = metric
        self._validated: list[tuple[Tensor, Tensor]] = []

    def forward(self, inputs: Tensors | PartialInputs) -> Tensor:
        with self._compute_format.autocast(self.device):
            if isinstance(inputs, PartialInputs):
                assert self._partial_backbone is not None
                features = self._partial_backbone.run_from(inputs)
            else:
                features = self.backbone(inputs)
        return self.head(features.float())  # type: ignore[no-any-return]

    def training_step(self, batch: tuple[Tensors | PartialInputs, Tensor], index: int) -> Tensor:
        inputs, targets = batch
        return loss_of(self(inputs), targets)

    def on_validation_epoch_start(self) -> None:
        self._validated = []

    def validation_step(self, batch: tuple[Tensors | PartialInputs, Tensor], index: int) -> None:
        inputs, targets = batch
        self._validated.append((self(inputs), targets))

    def on_validation_epoch_end(self) -> None:
        outputs, targets = (torch.cat(parts).cpu() for parts in zip(*self._validated, strict=True))
        cheap = ["loss"] if targets.is_floating_point() else ["loss", "accuracy"]
        found = evaluate(outputs, targets, dict.fromkeys([self._metric, *cheap]))
        self.log_dict({METRICS[name].validated: value for name, value in found.items()})

    def configure_optimizers(self) -> Optimizer:
        return self._optimizer


def loss_of(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return logits' (N, C) cross entropy, or values' (N, K) mean squared error.

    targets: class indices (N,), or floats (N,) or (N, K).
    """
    if targets.is_floating_point():
        return mse_loss(outputs, targets.reshape(outputs.shape))
    return cross_entropy(outputs, targets)


def predict(
    model: LightningModule, examples: Examples, *, batch_size: int, progress: Callable[[], None] = lambda: None
) -> Tensor:
    """Return a model's logits (N, classes) or values (N, K) in `eval()`, on the CPU.

    progress: is called after each batch.
    """
    model.eval()
    outputs = []
    with torch.no_grad():
        for inputs, _ in EvalLoader(examples, batch_size=batch_size):
            outputs.append(model(move_data_to_device(inputs, model.device)).cpu())
            progress()
    return torch.cat(outputs)
