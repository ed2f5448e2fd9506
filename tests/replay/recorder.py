"""What the replay table keeps of a training run, epoch by epoch."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class Recorder(Callback):
    """Validation loss and accuracy, CPU seconds, and the weights that may have moved, at the end of every epoch."""

    def __init__(self) -> None:
        self.val_loss: list[float] = []
        self.val_accuracy: list[float] = []
        self.seconds: list[float] = []
        self.weights: list[dict[str, Tensor]] = []
        self._since = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = time.process_time()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds.append(time.process_time() - self._since)
        self.val_loss.append(trainer.callback_metrics["val_loss"].item())
        self.val_accuracy.append(trainer.callback_metrics["val_accuracy"].item())
        held = {p for group in trainer.optimizers[0].param_groups for p in group["params"]}
        still = {name for name, parameter in pl_module.named_parameters() if parameter not in held}
        state: dict[str, Any] = pl_module.state_dict()
        self.weights.append({name: value.detach().clone() for name, value in state.items() if name not in still})
