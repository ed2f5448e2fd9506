"""Callbacks of a run: best epoch, pruning, progress, and random number generators."""

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from optuna_integration import PyTorchLightningPruningCallback
from torch import Tensor


class BestEpoch(Callback):
    """The best epoch by the study's metric, and with `keep_weights` its trained weights."""

    def __init__(self, metric: str, *, maximize: bool, keep_weights: bool) -> None:
        self.metric = metric
        self.sign = 1.0 if maximize else -1.0
        self.keep_weights = keep_weights
        self.epoch: int | None = None
        self.value = math.nan
        self.weights: dict[str, Tensor] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "value": self.value, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epoch, self.value, self.weights = (state_dict[key] for key in ("epoch", "value", "weights"))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        value = logged(trainer, self.metric)
        if not math.isfinite(value) or (self.epoch is not None and self.sign * value <= self.sign * self.value):
            return
        self.epoch, self.value = trainer.current_epoch, value
        if self.keep_weights:
            groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
            held = {parameter for group in groups for parameter in group["params"]}
            fixed = {name for name, parameter in pl_module.named_parameters() if parameter not in held}
            state = pl_module.state_dict()
            self.weights = {name: tensor.detach().clone() for name, tensor in state.items() if name not in fixed}


class PruningCallback(PyTorchLightningPruningCallback):
    """Optuna's pruning callback, which here stops the Trainer instead of raising `TrialPruned`.

    The original raises inside a hook, so other callbacks, `on_train_end` and `teardown` never run. It only warns of a
    missing metric, and judges a resumed trial's old epochs by its last report. This one raises `ValueError`, and skips
    the epochs before the last one reported. It judges that one: the process may have died just after its report.
    """

    def __init__(self, trial: optuna.Trial, monitor: str) -> None:
        super().__init__(trial, monitor)
        self.pruned = False
        self._reported = last_reported(trial)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking or trainer.current_epoch < self._reported:
            return
        logged(trainer, self.monitor)
        try:
            if trainer.current_epoch > self._reported:
                super().on_validation_end(trainer, pl_module)
            else:
                self.pruned = self._trial.should_prune()
        except optuna.TrialPruned:
            self.pruned = True
        trainer.should_stop |= self.pruned


class ProgressCallback(Callback):
    """A call of `progress` after every training and validation batch."""

    def __init__(self, progress: Callable[[], None]) -> None:
        self._progress = progress

    def on_train_batch_end(self, *_: Any) -> None:
        self._progress()

    def on_validation_batch_end(self, *_: Any) -> None:
        self._progress()


class RngState(Callback):
    """The states of torch's, numpy's and Python's global generators, for checkpoints.

    They are restored when the next epoch starts, because setting up a fit may draw from them. This callback must
    precede any other that draws.
    """

    def __init__(self) -> None:
        self._saved: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        numpy = np.random.get_state(legacy=False)
        numpy["state"]["key"] = numpy["state"]["key"].tolist()
        return {"torch": torch.get_rng_state(), "numpy": numpy, "python": random.getstate()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._saved = state_dict

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._saved is not None:
            torch.set_rng_state(self._saved["torch"])
            np.random.set_state(self._saved["numpy"])
            random.setstate(self._saved["python"])
            self._saved = None


def logged(trainer: Trainer, metric: str) -> float:
    """Return the metric's value in this epoch. Raises `ValueError` if it is not logged."""
    if metric not in trainer.callback_metrics:
        known = ", ".join(sorted(trainer.callback_metrics)) or "none"
        raise ValueError(f"The metric {metric!r} is not logged; logged: {known}.")
    return trainer.callback_metrics[metric].item()


def last_reported(trial: optuna.Trial) -> int:
    """Return the last epoch whose value the trial has stored, -1 for none."""
    step = trial.storage.get_trial(trial._trial_id).last_step
    return -1 if step is None else step
