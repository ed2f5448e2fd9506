"""Callbacks of a run: pruning, progress, and random number generators."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from optuna_integration import PyTorchLightningPruningCallback


class MetricCurve(Callback):
    """The study's metric in each epoch so far.

    compute: gives the metric of a module that does not log it.
    """

    def __init__(self, metric: str, *, compute: Callable[[LightningModule], float] | None = None) -> None:
        self.metric = metric
        self.values: list[float] = []
        self._compute = compute
        self._is_logged: bool | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"values": [*self.values]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.values[:] = state_dict["values"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking and trainer.current_epoch == len(self.values):
            if self._is_logged is None:
                self._is_logged = self.metric in trainer.callback_metrics
            if self._compute is not None and not self._is_logged:
                trainer.callback_metrics[self.metric] = torch.tensor(self._compute(pl_module))
            self.values.append(logged(trainer, self.metric))

    @property
    def value(self) -> float:
        """The mean over the last quarter of epochs, less noisy than the last alone."""
        return late_mean(self.values)


class PruningCallback(PyTorchLightningPruningCallback):
    """Optuna's pruning callback, which reports a curve's value and stops the Trainer.

    The original raises `TrialPruned` inside a hook, so other callbacks, `on_train_end` and `teardown` never run. It
    only warns of a missing metric, and judges a resumed trial's old epochs by its last report. This one skips the
    epochs before the last one reported. It judges that one: the process may have died just after its report.

    curve: must come before this callback in the Trainer's.
    """

    def __init__(self, trial: optuna.Trial, curve: MetricCurve) -> None:
        super().__init__(_ReportedBy(trial, curve), curve.metric)
        self.pruned = False
        self._reported = last_reported(trial)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking or trainer.current_epoch < self._reported:
            return
        try:
            if trainer.current_epoch > self._reported:
                super().on_validation_end(trainer, pl_module)
            else:
                self.pruned = self._trial.should_prune()
        except optuna.TrialPruned:
            self.pruned = True
        trainer.should_stop |= self.pruned


class _ReportedBy:
    """A trial to which a curve's value is reported, whatever the epoch's own."""

    def __init__(self, trial: optuna.Trial, curve: MetricCurve) -> None:
        self._trial = trial
        self._curve = curve

    def report(self, value: float, step: int) -> None:
        self._trial.report(self._curve.value, step)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trial, name)


def late_mean(values: Sequence[float]) -> float:
    """Return the mean over the last quarter of epochs, at least one; NaN for none."""
    late = values[-max(1, len(values) // 4) :]
    return sum(late) / len(late) if late else math.nan


class ProgressCallback(Callback):
    """A call of `progress` after every batch of training, validation and test."""

    def __init__(self, progress: Callable[[], None]) -> None:
        self._progress = progress

    def on_train_batch_end(self, *_: Any) -> None:
        self._progress()

    def on_validation_batch_end(self, *_: Any) -> None:
        self._progress()

    def on_test_batch_end(self, *_: Any) -> None:
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
