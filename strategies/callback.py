"""The callback that applies a strategy to a Lightning run."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.optim import Optimizer

from strategies.freeze import set_gradients, set_modes, trained_parameters
from strategies.groups import Groups, LayerGroup, layer_groups
from strategies.schedule import Schedule
from strategies.strategy import FreezingStrategy
from strategies.trainer_checks import (
    check_averaging,
    check_devices,
    check_length,
    check_parameters,
    check_rates,
    check_wrap,
    find_module,
    rate_indices,
    warn_of_frozen,
    warn_of_missing,
    warn_of_unfrozen,
)


class FreezingCallback(Callback):
    """Freeze and unfreeze layer groups, and move learning rates, by epoch and batch alone.

    backbone, head: names of the module's two parts (dots reach deeper). One may hold the other, and then is the rest.
    groups: as in `layer_groups`.

    Before every epoch the schedule sets what trains, and before every batch the learning rates, if the strategy moves
    them. So a run that resumes from a checkpoint in any phase is right. Lightning's `BaseFinetuning` loses its state on
    resume (Lightning #21901) and trains frozen batch norm (#15063). Only L2-SP has state: checkpoints hold the weights
    at the start of the fit.

    Parameters that other code has frozen stay so, with a warning, unless the strategy has `parameters` = "all". The
    module's own hooks may do it up to the first batch. For that, all that will ever train requires gradients until
    then. What its hooks unfreeze is frozen again, with a warning.

    Use it with `param_groups`: the optimizer must hold from the start all that will ever train; a warning names what
    it lacks outside the backbone. Without `lr_growth`, `warmup_steps` or `scheduler`, learning rates belong to the
    optimizer and to any scheduler. A `LearningRateMonitor` after this callback in the Trainer's list shows each batch's
    rates.

    DDP never averages parameters that are frozen when it wraps the module (#20340). So all that will ever train
    requires gradients then, and is frozen after the wrap. A strategy that unfreezes midway needs
    `Trainer(strategy="ddp_find_unused_parameters_true")`.

    Raises `MisconfigurationException` before training if module, optimizer or Trainer do not suit the strategy, and
    `ValueError` if the backbone does not (see `layer_groups`, `Schedule`).
    """

    def __init__(
        self,
        strategy: FreezingStrategy,
        *,
        backbone: str = "backbone",
        head: str = "head",
        groups: Groups | None = None,
    ) -> None:
        self.strategy = strategy
        self.backbone = backbone
        self.head = head
        self.groups = groups
        # Set at the start of each fit.
        self._layers: list[LayerGroup] = []
        self._schedule = Schedule(unfreeze_epochs=(), lr_shares=())
        self._rate_indices: list[list[int]] = []  # of each optimizer's parameter groups, among the factors
        self._pulled: dict[str, nn.Parameter] = {}  # parameters under L2-SP, by name in the backbone
        self._start: dict[str, Tensor] = {}  # their values at the start
        self._before_first_batch = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        check_devices(trainer)
        self._start = {}
        self._before_first_batch = True
        if not isinstance(trainer.strategy, DDPStrategy) and not self._has_parts(pl_module):
            return  # the module builds its parts in a hook of its own; only a wrap needs them now
        self._read(trainer, pl_module)
        trainable = [unfreeze is not None for unfreeze in self._schedule.unfreeze_epochs]
        self._set_gradients(pl_module, trainable)
        self._set_modes(pl_module, trainable)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._start = state_dict["start"]

    def state_dict(self) -> dict[str, Any]:
        return {"start": self._start} if self.strategy.pulls_back else {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._read(trainer, pl_module)  # again: synchronised batch norm replaces modules in between
        check_wrap(trainer, self._schedule)
        check_averaging(trainer, self._layers, self._schedule, self.strategy)
        if self._schedule.rates_move:
            check_rates(trainer, self.strategy)
            self._rate_indices = [rate_indices(optimizer, self._layers) for optimizer in trainer.optimizers]
        if self.strategy.pulls_back:
            self._remember_start()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A checkpoint has restored the epoch by now (one that resumes midway has no epoch start) ...
        self._set_modes(pl_module, self._schedule.trainable(trainer.current_epoch))
        if self._schedule.rates_move:
            check_length(trainer)
            # ... and the optimizer's groups with their initial rates.
            for optimizer in trainer.optimizers:
                for group in optimizer.param_groups:
                    group.setdefault("initial_lr", group["lr"])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._before_first_batch:
            self._set_gradients(pl_module, self._schedule.trainable(trainer.current_epoch))
        self._set_modes(pl_module, self._schedule.trainable(trainer.current_epoch))
        self._set_rates(trainer, 0)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._before_first_batch:
            check_parameters(trainer, self._layers, self._schedule, self.strategy)
            head = pl_module.get_submodule(self.head)
            warn_of_frozen(pl_module, head, self._layers, self._schedule, self.strategy)
            warn_of_missing(trainer, pl_module, self._layers)
        if self._before_first_batch or batch_idx == 0:  # the module's own hooks came in between
            trainable = self._schedule.trainable(trainer.current_epoch)
            if not self._before_first_batch:
                warn_of_unfrozen(pl_module, self._layers, trainable)
            self._set_gradients(pl_module, trainable)
            self._before_first_batch = False
        self._set_rates(trainer, batch_idx)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if not self.strategy.pulls_back:
            return
        # Gradients are unscaled by now, except if the optimizer does it in its step (a fused one, with float16).
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        pull = self.strategy.l2_sp
        if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            pull *= scaler.get_scale()
        held = {parameter for group in optimizer.param_groups for parameter in group["params"]}
        for name, parameter in self._pulled.items():
            if parameter.grad is not None and parameter in held:
                parameter.grad.add_(parameter.detach() - self._start[name], alpha=pull)

    def _has_parts(self, pl_module: LightningModule) -> bool:
        return {self.backbone, self.head} <= {name for name, _ in pl_module.named_modules(remove_duplicate=False)}

    def _read(self, trainer: Trainer, pl_module: LightningModule) -> None:
        backbone = find_module(self.backbone, pl_module)
        self._layers = layer_groups(backbone, groups=self.groups, head=find_module(self.head, pl_module))
        endless = trainer.max_epochs is None or trainer.max_epochs < 0
        self._schedule = self.strategy.schedule(len(self._layers), None if endless else trainer.max_epochs)

    def _set_gradients(self, pl_module: LightningModule, trainable: Sequence[bool]) -> None:
        strategy = self.strategy
        if strategy.parameters == "all":
            pl_module.get_submodule(self.head).requires_grad_(True)
        set_gradients(self._layers, trainable, parameters=strategy.parameters, batch_norm=strategy.batch_norm)

    def _set_modes(self, pl_module: LightningModule, trainable: Sequence[bool]) -> None:
        strategy, head = self.strategy, pl_module.get_submodule(self.head)
        head.train()
        set_modes(self._layers, trainable, parameters=strategy.parameters, batch_norm=strategy.batch_norm)
        if head in set(pl_module.get_submodule(self.backbone).modules()):
            head.train()  # a frozen backbone's mode has reached it

    def _set_rates(self, trainer: Trainer, batch: int) -> None:
        if not self._schedule.rates_move:
            return
        factors = self._schedule.lr_factors(
            trainer.current_epoch, step=batch, steps_per_epoch=int(trainer.num_training_batches)
        )
        for optimizer, indices in zip(trainer.optimizers, self._rate_indices, strict=True):
            for group, index in zip(optimizer.param_groups, indices, strict=True):
                group["lr"] = group["initial_lr"] * factors[index]

    def _remember_start(self) -> None:
        self._pulled = trained_parameters(self._layers, self.strategy, max_epochs=self._schedule.max_epochs)
        # A checkpoint has the start with it; a new fit starts from the weights as they are.
        self._start = {
            name: self._start[name].to(parameter.device) if name in self._start else parameter.detach().clone()
            for name, parameter in self._pulled.items()
        }
