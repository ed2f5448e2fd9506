"""What a Lightning run must bring for a strategy to hold, checked before it trains; else one clear refusal."""

import math
from collections.abc import Sequence
from dataclasses import replace

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.xla import XLAStrategy
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from strategies.freeze import is_batch_norm, trained_parameters
from strategies.groups import LayerGroup
from strategies.schedule import Schedule
from strategies.strategy import FreezingStrategy


def check_devices(trainer: Trainer) -> None:
    """One device, or copies of the whole module: sharding cuts and flattens parameters, frozen ones among them."""
    strategy = trainer.strategy
    sharded = isinstance(strategy, DeepSpeedStrategy | XLAStrategy)  # both are DDPStrategy's heirs
    if sharded or not isinstance(strategy, SingleDeviceStrategy | DDPStrategy):
        raise MisconfigurationException(
            f"FreezingCallback works on a single device and under DDP, not under {type(strategy).__name__}."
        )


def module_called(name: str, module: nn.Module) -> nn.Module:
    """A module's part by its dotted name."""
    parts: dict[str, nn.Module] = dict(module.named_modules(remove_duplicate=False))
    if name not in parts:
        have = ", ".join(child for child, _ in module.named_children()) or "none"
        raise MisconfigurationException(
            f"{type(module).__name__} has no module {name!r}; FreezingCallback(backbone=..., head=...) takes the names "
            f"of two of its own: {have}."
        )
    return parts[name]


def check_wrap(trainer: Trainer, schedule: Schedule) -> None:
    """A DDP wrap waits for every parameter's gradient, unless it looks for the unused ones in each step."""
    wrap = trainer.strategy.model
    if not isinstance(wrap, DistributedDataParallel) or not schedule.unfreezes_midway:
        return
    if not wrap.find_unused_parameters or wrap.static_graph:
        raise MisconfigurationException(
            "The strategy unfreezes layer groups during the run, which under DDP needs find_unused_parameters (and no "
            'static graph): Trainer(strategy="ddp_find_unused_parameters_true").'
        )


def check_parameters(
    trainer: Trainer, parts: Sequence[LayerGroup], schedule: Schedule, strategy: FreezingStrategy
) -> None:
    """The optimizers hold all that will ever train, and the backbone has some of what the strategy would train.

    That the groups which unfreeze have some is not asked: a search may well try norms alone where the last have none.
    """
    held = {p for optimizer in trainer.optimizers for group in optimizer.param_groups for p in group["params"]}
    trained = set(trained_parameters(parts, strategy, max_epochs=schedule.max_epochs).values())
    for part, unfreeze in zip(parts, schedule.unfreeze_epochs, strict=True):
        if not held.issuperset(trained.intersection(part.parameters)):
            raise MisconfigurationException(
                f"Layer group {part.name!r} unfreezes at epoch {unfreeze}, but the optimizer does not hold all of its "
                "parameters, so it would never train. Build the optimizer from `strategies.param_groups`."
            )
    unfreezes = any(unfreeze is not None for unfreeze in schedule.unfreeze_epochs)
    if unfreezes and not trained_parameters(parts, replace(strategy, freeze_depth=0)):
        raise MisconfigurationException(
            f"`parameters` = {strategy.parameters!r} with `batch_norm` = {strategy.batch_norm!r} leaves the backbone "
            "without any parameter that trains."
        )


def check_averaging(
    trainer: Trainer, parts: Sequence[LayerGroup], schedule: Schedule, strategy: FreezingStrategy
) -> None:
    """Lightning's SWA sets the statistics of all batch norms back to 0 and 1, and rates of its own."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    if not any(isinstance(callback, StochasticWeightAveraging) for callback in callbacks):
        return
    frozen = (
        is_batch_norm(module)
        for part, unfreeze in zip(parts, schedule.unfreeze_epochs, strict=True)
        for module in part.modules
        if unfreeze is None or strategy.batch_norm == "frozen"
    )
    if schedule.rates_move or any(frozen):
        raise MisconfigurationException(
            "StochasticWeightAveraging loses the statistics of frozen batch norms and moves learning rates itself; use "
            "lightning.pytorch.callbacks.WeightAveraging instead."
        )


def check_rates(trainer: Trainer, strategy: FreezingStrategy) -> None:
    """Learning rates have one master, and a scheduler an end to aim at."""
    moved = "The strategy moves learning rates (`lr_growth`, `warmup_steps` or `scheduler`)"
    if trainer.lr_scheduler_configs:
        name = type(trainer.lr_scheduler_configs[0].scheduler).__name__
        raise MisconfigurationException(f"{moved}, and so does the module's own {name}: keep one of the two.")
    if strategy.scheduler != "constant" and (trainer.max_epochs is None or trainer.max_epochs < 0):
        raise MisconfigurationException(
            f"`scheduler` = {strategy.scheduler!r} needs a last epoch: set Trainer(max_epochs=...)."
        )


def check_length(trainer: Trainer) -> None:
    """Steps are counted in batches of an epoch."""
    if not math.isfinite(trainer.num_training_batches):
        raise MisconfigurationException(
            "The strategy moves learning rates, so an epoch needs a known number of batches: give the training data "
            "a length, or set Trainer(limit_train_batches=...)."
        )


def rates_of(optimizer: Optimizer, parts: Sequence[LayerGroup]) -> list[int]:
    """For each of an optimizer's parameter groups, which layer group's rate it has; what is in none, the head's."""
    place = {parameter: index for index, part in enumerate(parts) for parameter in part.parameters}
    found = []
    for group in optimizer.param_groups:
        places = sorted({place.get(parameter, len(parts)) for parameter in group["params"]})
        if len(places) > 1:
            names = ", ".join([*(part.name for part in parts), "head"][index] for index in places)
            raise MisconfigurationException(
                f"The strategy moves the learning rates of {names} apart, but they are in one parameter group of the "
                "optimizer. Build it from `strategies.param_groups`."
            )
        found.append(places[0])
    return found
