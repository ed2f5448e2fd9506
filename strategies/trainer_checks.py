"""Checks that a Lightning run suits the strategy, which raise `MisconfigurationException` or warn."""

import math
from collections.abc import Sequence, Set
from dataclasses import replace

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.xla import XLAStrategy
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from strategies.freeze import trained_parameters
from strategies.groups import LayerGroup
from strategies.layer_kinds import is_batch_norm
from strategies.schedule import Schedule
from strategies.strategy import FreezingStrategy


def check_devices(trainer: Trainer) -> None:
    """Refuse sharding, which cuts and flattens parameters, frozen ones too."""
    strategy = trainer.strategy
    sharded = isinstance(strategy, DeepSpeedStrategy | XLAStrategy)  # both inherit from DDPStrategy
    if sharded or not isinstance(strategy, SingleDeviceStrategy | DDPStrategy):
        raise MisconfigurationException(
            f"FreezingCallback works on a single device and under DDP, not under {type(strategy).__name__}."
        )


def find_module(name: str, root: nn.Module) -> nn.Module:
    """Return a module's part by its dotted name."""
    parts: dict[str, nn.Module] = dict(root.named_modules(remove_duplicate=False))
    if name not in parts:
        have = ", ".join(child for child, _ in root.named_children()) or "none"
        raise MisconfigurationException(
            f"{type(root).__name__} has no module {name!r}; FreezingCallback(backbone=..., head=...) takes the names "
            f"of two of its own: {have}."
        )
    return parts[name]


def check_wrap(trainer: Trainer, schedule: Schedule) -> None:
    """Refuse a DDP wrap that waits for the gradients of frozen parameters."""
    wrap = trainer.strategy.model
    if not isinstance(wrap, DistributedDataParallel) or not schedule.unfreezes_midway:
        return
    if not wrap.find_unused_parameters or wrap.static_graph:
        raise MisconfigurationException(
            "The strategy unfreezes layer groups during the run, which under DDP needs find_unused_parameters (and no "
            'static graph): Trainer(strategy="ddp_find_unused_parameters_true").'
        )


def check_parameters(
    trainer: Trainer, groups: Sequence[LayerGroup], schedule: Schedule, strategy: FreezingStrategy
) -> None:
    """Check that the optimizers hold all that will ever train, and that something will.

    The unfrozen groups may have none: a search may try norms alone where the last groups have no norm.
    """
    held = _held(trainer)
    trained = set(trained_parameters(groups, strategy, max_epochs=schedule.max_epochs).values())
    for group, unfreeze in zip(groups, schedule.unfreeze_epochs, strict=True):
        if not held.issuperset(trained.intersection(group.parameters)):
            raise MisconfigurationException(
                f"Layer group {group.name!r} unfreezes at epoch {unfreeze}, but the optimizer does not hold all of its "
                "parameters, so it would never train. Build the optimizer from `strategies.param_groups`."
            )
    unfreezes = any(unfreeze is not None for unfreeze in schedule.unfreeze_epochs)
    if unfreezes and not trained_parameters(groups, replace(strategy, freeze_depth=0)):
        raise MisconfigurationException(
            f"`parameters` = {strategy.parameters!r} with `batch_norm` = {strategy.batch_norm!r} leaves the backbone "
            "without any parameter that trains. Parameters with requires_grad = False before the fit stay frozen, "
            'unless the strategy is a FreezingStrategy(parameters="all").'
        )


def warn_of_frozen(
    module: nn.Module, head: nn.Module, groups: Sequence[LayerGroup], schedule: Schedule, strategy: FreezingStrategy
) -> None:
    """Name the parameters that the strategy would train, had other code not frozen them."""
    if strategy.parameters == "all":
        return
    still = {p for p in head.parameters() if not p.requires_grad}.difference(*(group.parameters for group in groups))
    still.update(trained_parameters(groups, strategy, max_epochs=schedule.max_epochs, by_hand=True).values())
    advice = 'had requires_grad = False before the fit and stay frozen; FreezingStrategy(parameters="all") trains them.'
    _warn_of(still, module, advice)


def warn_of_unfrozen(module: nn.Module, groups: Sequence[LayerGroup], trainable: Sequence[bool]) -> None:
    """Name the parameters of frozen groups that other code has unfrozen since the epoch started."""
    pairs = zip(groups, trainable, strict=True)
    free = {p for group, trains in pairs if not trains for p in group.parameters if p.requires_grad}
    _warn_of(free, module, "were unfrozen by other code and are frozen again: the strategy says when they train.")


def warn_of_missing(trainer: Trainer, module: nn.Module, groups: Sequence[LayerGroup]) -> None:
    """Name the parameters outside the layer groups that require gradients, but are in no optimizer."""
    known = _held(trainer).union(*(group.parameters for group in groups))
    missing = {parameter for parameter in module.parameters() if parameter.requires_grad} - known
    advice = "put them into the head of `param_groups`, nn.ModuleList([head, ...]), or set requires_grad = False."
    _warn_of(missing, module, f"are in no optimizer, so they never train: {advice}")


def _held(trainer: Trainer) -> set[nn.Parameter]:
    return {p for optimizer in trainer.optimizers for group in optimizer.param_groups for p in group["params"]}


def _warn_of(parameters: Set[nn.Parameter], module: nn.Module, text: str) -> None:
    names = [name for name, parameter in module.named_parameters() if parameter in parameters]
    if names:
        rank_zero_warn(f"{len(names)} parameter(s) ({', '.join(names[:4])}{', ...' * (len(names) > 4)}) {text}")


def check_averaging(
    trainer: Trainer, groups: Sequence[LayerGroup], schedule: Schedule, strategy: FreezingStrategy
) -> None:
    """Refuse Lightning's SWA, which resets batch norm statistics and moves learning rates."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    if not any(isinstance(callback, StochasticWeightAveraging) for callback in callbacks):
        return
    frozen = (
        is_batch_norm(module)
        for group, unfreeze in zip(groups, schedule.unfreeze_epochs, strict=True)
        for module in group.modules
        if unfreeze is None or strategy.batch_norm == "frozen"
    )
    if schedule.rates_move or any(frozen):
        raise MisconfigurationException(
            "StochasticWeightAveraging loses the statistics of frozen batch norms and moves learning rates itself; use "
            "lightning.pytorch.callbacks.WeightAveraging instead."
        )


def check_rates(trainer: Trainer, strategy: FreezingStrategy) -> None:
    """Refuse a second scheduler, and a scheduler without a last epoch."""
    moved = "The strategy moves learning rates (`lr_growth`, `warmup_steps` or `scheduler`)"
    if trainer.lr_scheduler_configs:
        name = type(trainer.lr_scheduler_configs[0].scheduler).__name__
        raise MisconfigurationException(f"{moved}, and so does the module's own {name}: keep one of the two.")
    if strategy.scheduler != "constant" and (trainer.max_epochs is None or trainer.max_epochs < 0):
        raise MisconfigurationException(
            f"`scheduler` = {strategy.scheduler!r} needs a last epoch: set Trainer(max_epochs=...)."
        )


def check_length(trainer: Trainer) -> None:
    """Refuse an epoch without a known number of batches, which steps are counted by."""
    if not math.isfinite(trainer.num_training_batches):
        raise MisconfigurationException(
            "The strategy moves learning rates, so an epoch needs a known number of batches: give the training data "
            "a length, or set Trainer(limit_train_batches=...)."
        )


def rate_indices(optimizer: Optimizer, groups: Sequence[LayerGroup]) -> list[int]:
    """Return the layer group's index of each of an optimizer's parameter groups.

    `len(groups)` is the head, and all that is in no layer group.
    """
    index_of = {parameter: index for index, group in enumerate(groups) for parameter in group.parameters}
    found = []
    for entry in optimizer.param_groups:
        indices = sorted({index_of.get(parameter, len(groups)) for parameter in entry["params"]})
        if len(indices) > 1:
            names = ", ".join([*(group.name for group in groups), "head"][index] for index in indices)
            raise MisconfigurationException(
                f"The strategy moves the learning rates of {names} apart, but they are in one parameter group of the "
                "optimizer. Build it from `strategies.param_groups`."
            )
        found.append(indices[0])
    return found
