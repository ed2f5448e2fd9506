"""The Lightning module that every run of ours trains, and the lean Trainer it runs in."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.optim import Optimizer

from search.sections import Train
from search.stages import Resumed, Stages
from search.tasks.data import Examples
from search.tasks.loading import eval_loader
from search.tasks.models import Tensors

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "sgd": lambda groups, **options: torch.optim.SGD(groups, momentum=0.9, **options),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """What a backbone is trained in; by default plain float32, in which it equals anybody's script.

    bfloat16: autocast; parameters, head, loss and optimizer stay in float32.
    channels_last: kernels and maps in NHWC order, from which depthwise convolutions on a CPU gain most.

    It is for what trains. Frozen layers are computed once, and a head alone is slower in bfloat16.
    """

    bfloat16: bool = False
    channels_last: bool = False

    def __str__(self) -> str:
        return ("bfloat16" if self.bfloat16 else "float32") + (", channels last" if self.channels_last else "")

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """Where a backbone runs that trains."""
        return torch.autocast(device.type, torch.bfloat16) if self.bfloat16 else nullcontext()

    def lay_out(self, backbone: nn.Module) -> None:
        """Put the kernels in order, in place: the maps that go through them follow."""
        if self.channels_last:
            backbone.to(memory_format=torch.channels_last)


PLAIN = Arithmetic()


class TaskModule(LightningModule):
    """A backbone (inputs -> features (N, F)) and a head: features -> logits (N, classes), or values (N, K).

    Targets of whole numbers make it a classifier (cross entropy), others a regressor (mean squared error).
    With `stages`, inputs may be `Resumed`: what the frozen groups of the backbone have made of them.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        *,
        optimizer: Optimizer,
        stages: Stages | None = None,
        arithmetic: Arithmetic = PLAIN,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self._optimizer = optimizer
        self._stages = stages
        self._arithmetic = arithmetic

    def forward(self, inputs: Tensors | Resumed) -> Tensor:
        with self._arithmetic.autocast(self.device):
            if isinstance(inputs, Resumed):
                assert self._stages is not None
                features = self._stages.onward(inputs)
            else:
                features = self.backbone(inputs)
        return self.head(features.float())  # type: ignore[no-any-return]

    def training_step(self, batch: tuple[Tensors | Resumed, Tensor], index: int) -> Tensor:
        inputs, targets = batch
        return loss_of(self(inputs), targets)

    def validation_step(self, batch: tuple[Tensors | Resumed, Tensor], index: int) -> None:
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
    """The study's optimizer over parameter groups that bring their own learning rates, in its fused implementation.

    Fused, a step of AdamW is one kernel a group: of a ResNet-18's training on a CPU that takes off a tenth. It rounds
    otherwise than torch's default, so who trains on with a saved strategy to the same digits says `fused=True` too.
    """
    return OPTIMIZERS[train.optimizer](groups, weight_decay=train.weight_decay, fused=True)


def device_of(accelerator: str) -> torch.device:
    """The device that Lightning chooses for that `[train] accelerator`."""
    found = torch.accelerator.current_accelerator() if accelerator != "cpu" else None
    return found if found is not None and torch.accelerator.is_available() else torch.device("cpu")


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


def eval_batch(train: Train) -> int:
    """Examples a batch where nothing is kept for a backward pass."""
    return 8 * train.batch_size


def predict(model: LightningModule, examples: Examples, *, batch_size: int) -> Tensor:
    """Logits (N, classes) or values (N, K) of a trained model in `eval()`, on the CPU."""
    model.eval()
    with torch.no_grad():
        loader = eval_loader(examples, batch_size=batch_size)
        return torch.cat([model(move_data_to_device(inputs, model.device)).cpu() for inputs, _ in loader])
