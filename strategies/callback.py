"""The strategy at work in a Lightning run."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.optim import Optimizer

from strategies.freeze import set_trainable, trained_parameters
from strategies.groups import Groups, LayerGroup, layer_groups
from strategies.optim import check_apart
from strategies.schedule import Schedule
from strategies.strategy import FreezingStrategy
from strategies.trainer_checks import (
    check_averaging,
    check_devices,
    check_length,
    check_parameters,
    check_rates,
    check_wrap,
    module_called,
    rates_of,
)


class FreezingCallback(Callback):
    """Freeze and unfreeze layer groups, and move their learning rates, as a pure function of epoch and batch.

    `backbone` and `head` name the module's two parts (dots reach deeper); `groups` is as in `layer_groups`.
    What trains is set anew from the strategy's schedule before every epoch, and learning rates, where the
    strategy moves them, before every batch; so a run that resumes from a checkpoint, in any phase, is right.
    It alone decides: what somebody froze in the backbone before trains as soon as its group does.
    The one thing it has to remember, and checkpoints with it, is where L2-SP pulls to: the weights at the start
    of the fit. It deliberately is no `lightning.pytorch.callbacks.BaseFinetuning`, whose state is lost on
    resume (Lightning #21901) and which trains frozen batch norm (#15063).

    Pair it with `param_groups`: an optimizer must hold from the start all that will ever train. Where the
    strategy moves no rates (no `lr_growth`, `warmup_steps` or `scheduler`) it leaves them to the optimizer and
    to whatever scheduler goes with it. A `LearningRateMonitor` shows each batch's rates if it stands after this
    callback.

    Under DDP, what is frozen when the module is wrapped is never averaged over the processes (#20340). So what
    will ever train requires gradients then, and is frozen after the wrap; for a strategy that unfreezes midway the
    wrap must look for unused parameters: `Trainer(strategy="ddp_find_unused_parameters_true")`.

    Raises `MisconfigurationException` before training where the module, its optimizer or the Trainer do not
    fit the strategy, and `ValueError` where its backbone does not (see `layer_groups`, `Schedule`).
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
        # Read off at the start of each fit.
        self._parts: list[LayerGroup] = []
        self._schedule = Schedule(unfreeze_epochs=(), lr_shares=())
        self._rate_of: list[list[int]] = []  # for each parameter group of each optimizer: its place among the factors
        self._pulled: dict[str, nn.Parameter] = {}  # what L2-SP acts on, by name in the backbone
        self._start: dict[str, Tensor] = {}  # and where it pulls to

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        check_devices(trainer)
        self._start = {}
        if not isinstance(trainer.strategy, DDPStrategy) and not self._is_built(pl_module):
            return  # the module builds its parts in a hook of its own; only a wrap needs to know them now
        self._read(trainer, pl_module)
        self._set_trainable(pl_module, [unfreeze is not None for unfreeze in self._schedule.unfreeze_epochs])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._start = state_dict["start"]

    def state_dict(self) -> dict[str, Any]:
        return {"start": self._start} if self.strategy.pulls_back else {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._read(trainer, pl_module)  # again: synchronised batch norm replaces modules in between
        check_wrap(trainer, self._schedule)
        check_averaging(trainer, self._parts, self._schedule, self.strategy)
        check_parameters(trainer, self._parts, self._schedule, self.strategy)
        if self._schedule.rates_move:
            check_rates(trainer, self.strategy)
            self._rate_of = [rates_of(optimizer, self._parts) for optimizer in trainer.optimizers]
        if self.strategy.pulls_back:
            self._remember_start()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Only now has a checkpoint put back the epoch, which does not start again where it was broken off midway ...
        self._set_trainable(pl_module, self._schedule.trainable(trainer.current_epoch))
        if self._schedule.rates_move:
            check_length(trainer)
            # ... and the optimizer's groups, with the rates they began with.
            for optimizer in trainer.optimizers:
                for group in optimizer.param_groups:
                    group.setdefault("initial_lr", group["lr"])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._set_trainable(pl_module, self._schedule.trainable(trainer.current_epoch))
        self._set_rates(trainer, 0)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._set_rates(trainer, batch_idx)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if not self.strategy.pulls_back:
            return
        # Gradients are unscaled by now, but for an optimizer that does it in its step (a fused one, with float16).
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        pull = self.strategy.l2_sp
        if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            pull *= scaler.get_scale()
        held = {parameter for group in optimizer.param_groups for parameter in group["params"]}
        for name, parameter in self._pulled.items():
            if parameter.grad is not None and parameter in held:
                parameter.grad.add_(parameter.detach() - self._start[name], alpha=pull)

    def _is_built(self, pl_module: LightningModule) -> bool:
        return {self.backbone, self.head} <= {name for name, _ in pl_module.named_modules(remove_duplicate=False)}

    def _read(self, trainer: Trainer, pl_module: LightningModule) -> None:
        backbone = module_called(self.backbone, pl_module)
        check_apart(backbone, module_called(self.head, pl_module))
        self._parts = layer_groups(backbone, groups=self.groups)
        endless = trainer.max_epochs is None or trainer.max_epochs < 0
        self._schedule = self.strategy.schedule(len(self._parts), None if endless else trainer.max_epochs)

    def _set_trainable(self, pl_module: LightningModule, trainable: Sequence[bool]) -> None:
        strategy = self.strategy
        set_trainable(self._parts, trainable, parameters=strategy.parameters, batch_norm=strategy.batch_norm)
        head = pl_module.get_submodule(self.head)
        head.requires_grad_(True)
        head.train()

    def _set_rates(self, trainer: Trainer, batch: int) -> None:
        if not self._schedule.rates_move:
            return
        factors = self._schedule.lr_factors(
            trainer.current_epoch, step=batch, steps_per_epoch=int(trainer.num_training_batches)
        )
        for optimizer, places in zip(trainer.optimizers, self._rate_of, strict=True):
            for group, place in zip(optimizer.param_groups, places, strict=True):
                group["lr"] = group["initial_lr"] * factors[place]

    def _remember_start(self) -> None:
        self._pulled = trained_parameters(self._parts, self.strategy, max_epochs=self._schedule.max_epochs)
        # A checkpoint has brought the start with it; a fit that begins takes the weights as they are.
        self._start = {
            name: self._start[name].to(parameter.device) if name in self._start else parameter.detach().clone()
            for name, parameter in self._pulled.items()
        }
