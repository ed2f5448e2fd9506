"""The Lightning module of a backbone and a head, its loss, and its predictions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
from search.spec.values import ClassWeight
from search.training.scoring import evaluate
from search.verdict.metric import METRICS


class TaskModule(LightningModule):
    """A classifier or regressor of a backbone and a head.

    backbone: inputs -> features (N, F).
    head: features -> logits (N, classes), or values (N, K).
    partial_backbone: lets inputs be `PartialInputs`, outputs of the backbone's frozen groups.

    metric: the word of a metric that is logged, as "val_<metric>", beside loss and accuracy.
    scaling: of targets and loss; outputs are in the targets' own units.

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
        scaling: "Scaling | None" = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self._optimizer = optimizer
        self._partial_backbone = partial_backbone
        self._compute_format = compute_format
        self._metric = metric
        self._scaling = scaling or Scaling()
        self._validated: list[tuple[Tensor, Tensor]] = []

    @property
    def validated(self) -> tuple[Tensor, Tensor] | None:
        """Outputs and targets of the last validation, on the CPU; None without one."""
        if not self._validated:
            return None
        outputs, targets = (torch.cat(parts).cpu() for parts in zip(*self._validated, strict=True))
        return outputs, targets

    def forward(self, inputs: Tensors | PartialInputs) -> Tensor:
        return self._scaling.back(self._outputs(inputs))

    def training_step(self, batch: tuple[Tensors | PartialInputs, Tensor], index: int) -> Tensor:
        inputs, targets = batch
        scaling = self._scaling
        return loss_of(self._outputs(inputs), scaling.scaled(targets), class_weight=scaling.class_weight)

    def _outputs(self, inputs: Tensors | PartialInputs) -> Tensor:
        """Return the head's outputs: logits, or numbers in units of the targets' spread."""
        with self._compute_format.autocast(self.device):
            if isinstance(inputs, PartialInputs):
                assert self._partial_backbone is not None
                features = self._partial_backbone.run_from(inputs)
            else:
                features = self.backbone(inputs)
        return self.head(features.float())  # type: ignore[no-any-return]

    def on_validation_epoch_start(self) -> None:
        self._validated = []

    def validation_step(self, batch: tuple[Tensors | PartialInputs, Tensor], index: int) -> None:
        inputs, targets = batch
        self._validated.append((self(inputs), targets))

    def on_validation_epoch_end(self) -> None:
        assert self.validated is not None
        outputs, targets = self.validated
        cheap = ["loss"] if targets.is_floating_point() else ["loss", "accuracy"]
        found = evaluate(outputs, targets, dict.fromkeys([self._metric, *cheap]))
        self.log_dict({METRICS[name].validated: value for name, value in found.items()})

    def configure_optimizers(self) -> Optimizer:
        return self._optimizer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scaling:
    """The scale of a training set's targets, and the weights of its classes.

    mean, std: (K,) of the numbers to predict; None for classes.
    class_weight: (C,) factors of the classes' losses; None: all alike.
    """

    mean: Tensor | None = None
    std: Tensor | None = None
    class_weight: Tensor | None = None

    @classmethod
    def of(cls, targets: Tensor, *, classes: Sequence[str], wanted: ClassWeight | None) -> "Scaling":
        """Return the scaling by training targets (N,) or (N, K).

        wanted: the classes' weights. "balanced" makes them inversely proportional to frequencies, as in scikit-learn.
            A class without an example weighs 1.
        """
        if targets.is_floating_point():
            numbers = targets.reshape(len(targets), -1)
            std = numbers.std(0, correction=0)
            return cls(mean=numbers.mean(0), std=torch.where(std > 0, std, 1.0))
        if wanted is None:
            return cls()
        if wanted == "balanced":
            counts = torch.bincount(targets, minlength=len(classes))
            weights = len(targets) / (int((counts > 0).sum()) * counts.clamp(min=1))
            return cls(class_weight=torch.where(counts > 0, weights, 1.0))
        return cls(class_weight=torch.tensor([float(wanted.get(name, 1.0)) for name in classes]))

    def scaled(self, values: Tensor) -> Tensor:
        """Return numbers (N,) or (N, K) in units of the spread; classes as they are."""
        if self.mean is None or self.std is None:
            return values
        shape = (len(values), -1)
        return (values.reshape(shape) - self.mean.to(values.device)) / self.std.to(values.device)

    def back(self, outputs: Tensor) -> Tensor:
        """Return outputs (N, K) in the targets' own units; logits as they are."""
        if self.mean is None or self.std is None:
            return outputs
        return outputs * self.std.to(outputs.device) + self.mean.to(outputs.device)


def loss_of(outputs: Tensor, targets: Tensor, *, class_weight: Tensor | None = None) -> Tensor:
    """Return logits' (N, C) cross entropy, or values' (N, K) mean squared error.

    targets: class indices (N,), or floats (N,) or (N, K).
    class_weight: (C,) factors of the classes' losses.
    """
    if targets.is_floating_point():
        return mse_loss(outputs, targets.reshape(outputs.shape))
    return cross_entropy(outputs, targets, None if class_weight is None else class_weight.to(outputs.device))


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
