"""Things of the user's own module and data that a study does not take."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import Checkpoint
from torch import nn
from torch.optim import Optimizer

from search.data.examples import TaskData
from search.data.images import Images
from search.models.network import Parts
from search.spec.study_spec import StudySpec
from search.spec.values import ends
from search.task.optimizers import build_optimizer
from search.user_code import one_line, overrides

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
SCHEDULERS = {"CosineAnnealingLR": "cosine", "LinearLR": "linear", "PolynomialLR": "linear", "ConstantLR": "constant"}
"""torch's schedulers by class, and the nearest of `[space] scheduler`."""
IGNORED = {"lr", "weight_decay", "foreach", "fused", "capturable", "differentiable", "decoupled_weight_decay"}
"""Options of an optimizer that are searched, compared apart, or change rounding alone."""
OPTIMIZER_KEYS = "to choose: [train] optimizer and weight_decay, [space] scheduler"
LOSSES = ("training_step", "compute_loss", "loss", "loss_fn", "criterion")
"""Names under which a module keeps its loss."""
NAMES_SHOWN = 3


def dropped(spec: StudySpec, data: TaskData, parts: Parts) -> list[str]:
    """Return a line for each thing of the user's own code that is not taken.

    parts: a fresh network, which is not used afterwards: its hooks may change it.
    """
    lines = [f"{data.origin}: {line}" for line in _of_data(spec, data, own=parts.module is not None)]
    if ":" in spec.model.backbone:
        frozen = [*_of_frozen(spec, parts)]  # before a hook freezes more
        found = [*_of_module(spec, parts.module)] if parts.module is not None else [*_of_loss(parts)]
        lines += [f"[model] backbone = {spec.model.backbone!r}: {line}" for line in [*frozen, *found]]
    return lines


def _of_data(spec: StudySpec, data: TaskData, *, own: bool) -> Iterator[str]:
    train, brought = spec.train, data.brought
    if brought.batch_size not in (None, train.batch_size):
        yield (
            f"its loader's batch_size = {brought.batch_size} is not taken, a step has {train.batch_size} examples; "
            f"to have it: [train] batch_size = {brought.batch_size}."
        )
    if brought.drop_last and train.steps is None:
        yield "its loader's drop_last is not taken; to have full batches only: [train] steps_per_epoch = a number."
    if brought.sampler:
        way = "weights in your module's loss" if own else '[train] class_weight = "balanced"'
        yield (
            f"its loader's {brought.sampler} is not taken: each pass shows every drawn example once, in random order; "
            f"to weigh rare classes: {way}."
        )
    module = "the training_step of your LightningModule" if own else "the training_step of a LightningModule"
    if brought.collate:
        way = "[model] image_size, mean, std" if isinstance(data.pool.inputs, Images) else "that of train_dataloader"
        yield f"its collate_fn {brought.collate} is not taken: batches are made by {way}; to have it: {module}."
    images = '[train] augment = ["crop", "flip"] (each view drawn afresh), or ' * isinstance(data.pool.inputs, Images)
    for part in brought.draws:
        yield (
            f"its {part} draws at random, and is read once: each example stays as it was first drawn, in all epochs; "
            f"to augment: {images}{module}."
        )
    for hook in brought.hooks:
        yield f"its {hook} is not called, since loaders are the study's own; to have it: {hook} of a LightningModule."


def _of_module(spec: StudySpec, module: LightningModule) -> Iterator[str]:
    for loader in LOADERS:
        if overrides(module, loader):
            yield f"its {loader} is not called: data are [task] data; to have it: a LightningDataModule there."
    kept = module.configure_callbacks()
    for callback in [kept] if isinstance(kept, Callback) else kept:
        if isinstance(callback, Checkpoint):
            yield (
                f"its {type(callback).__name__} is not taken: trials keep no checkpoints; to have it: train the "
                "recommended strategy in your own script, by search.best_strategy."
            )
    if not overrides(module, "configure_optimizers"):
        return
    free = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    try:
        optimizers, schedulers = _taken_apart(module.configure_optimizers())
    except Exception as error:
        yield f"its configure_optimizers is not taken (tried, it fails: {one_line(error)}); {OPTIMIZER_KEYS}."
        return
    frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad and name in free]
    if frozen:
        yield (
            f"its configure_optimizers is not called, so {_shown(frozen)} train; to have that: "
            "requires_grad = False in its __init__."
        )
    if len(optimizers) > 1:
        yield f"its {len(optimizers)} optimizers are not taken, one trains all; {OPTIMIZER_KEYS}."
    for optimizer in optimizers[:1]:
        yield from _of_optimizer(spec, optimizer)
    for scheduler in schedulers:
        yield from _of_scheduler(spec, scheduler)


def _of_optimizer(spec: StudySpec, optimizer: Optimizer) -> Iterator[str]:
    name, options = type(optimizer).__name__, dict(optimizer.defaults)
    decay = float(max(group.get("weight_decay", 0) for group in optimizer.param_groups))
    word = {"SGD": "sgd", "AdamW": "adamw", "Adam": None if decay else "adamw"}.get(name)
    train = spec.train.model_copy(update={"optimizer": word or spec.train.optimizer, "weight_decay": decay})
    nearest = build_optimizer(train, [nn.Parameter(torch.zeros(1))]).defaults
    others = {key: value for key, value in options.items() if key not in IGNORED and nearest.get(key) != value}
    if word and not others and (word, decay) == (spec.train.optimizer, spec.train.weight_decay):
        return
    shown = ", ".join(f"{key}={value}" for key, value in ({"weight_decay": decay} | others).items())
    if word is None:
        way = f'nearest to it: [train] optimizer = "adamw" or "sgd", weight_decay = {decay:g}'
    else:
        way = f'to have it: [train] optimizer = "{word}", weight_decay = {decay:g}'
        way += f" (no key takes {', '.join(others)})" if others else ""
    yield f"its optimizer {name}({shown}) is not taken; {way}."


def _of_scheduler(spec: StudySpec, scheduler: Any) -> Iterator[str]:
    name = type(scheduler).__name__
    near = SCHEDULERS.get(name)
    if near is None:
        yield (
            f"its LR scheduler {name} is not taken; nearest to it: [space] scheduler = "
            '["constant", "cosine", "linear"], or warmup_steps.'
        )
    elif near not in (ends(spec.space.scheduler) or ["constant"]):
        yield f'its LR scheduler {name} is not taken; to have it: [space] scheduler = "{near}".'


def _taken_apart(made: Any) -> tuple[list[Optimizer], list[Any]]:
    """Return the optimizers and schedulers of all that Lightning takes from `configure_optimizers`."""
    if made is None:
        return [], []
    if isinstance(made, Optimizer):
        return [made], []
    if isinstance(made, dict):
        found = made.get("lr_scheduler", made.get("scheduler"))
        schedulers = _taken_apart(found)[1] if isinstance(found, dict) else [found] if found is not None else []
        return [made["optimizer"]] if "optimizer" in made else [], schedulers
    if not isinstance(made, list | tuple):
        return [], [made]
    parts = [_taken_apart(part) for part in made]
    return [one for part in parts for one in part[0]], [one for part in parts for one in part[1]]


def _of_loss(parts: Parts) -> Iterator[str]:
    """Yield a line where a network without Lightning's steps has a loss."""
    for part in (parts.backbone, parts.head):
        modules = () if part is None else part.modules()
        named = {name for name in LOSSES if part is not None and hasattr(part, name)}
        named = named or {type(m).__name__ for m in modules if type(m).__module__ == "torch.nn.modules.loss"}
        if named:
            yield (
                f"its loss ({', '.join(sorted(named))}) is not taken: cross entropy trains classes, mean squared error "
                "numbers; to have it: return a LightningModule with a `backbone` and a `head`."
            )
            return


def _of_frozen(spec: StudySpec, parts: Parts) -> Iterator[str]:
    """Yield a line of parameters that the user froze by hand."""
    named = nn.ModuleDict({name: part for name, part in (("backbone", parts.backbone), ("head", parts.head)) if part})
    frozen = [name for name, parameter in named.named_parameters() if not parameter.requires_grad]
    if frozen:
        yield frozen_line(spec, frozen)


def frozen_line(spec: StudySpec, names: Sequence[str], *, place: str = "") -> str:
    """Return a line on parameters that the user froze by hand.

    place: where in their code, with a blank before it.
    """
    if "all" in (ends(spec.space.parameters) or ["trainable"]):
        return (
            f'its requires_grad = False of {_shown(names)}{place} is not taken where parameters = "all"; to have it: '
            '[space] parameters = "trainable".'
        )
    return (
        f"{_shown(names)} with requires_grad = False{place} stay frozen at every freeze depth; to train them: "
        '[space] parameters = "all".'
    )


def _shown(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > NAMES_SHOWN else ""
    return f"{len(names)} parameter{'s' * (len(names) > 1)} ({', '.join(names[:NAMES_SHOWN])}{more})"
