"""The search space: defaults for what a study file leaves open, baselines, and params -> strategy."""

from collections.abc import Collection
from dataclasses import fields
from typing import Any

import optuna

from search.spec.study_spec import StudySpec
from search.spec.tables import Choice, Range, Space, Words, ends
from strategies import FreezingStrategy

# What a baseline is about, as against the rates it is run at.
_STRUCTURE = ("freeze_depth", "unfreeze_epoch", "epochs_per_group", "pretrained")

# What a study may add to a strategy; where it says nothing, these keep their defaults and are never asked for.
_REFINEMENTS = ("lr_growth", "warmup_steps", "scheduler", "parameters", "batch_norm", "l2_sp")
_DEFAULTS: dict[str, Any] = {
    field.name: field.default for field in fields(FreezingStrategy) if field.name in _REFINEMENTS
}

# What spares pretrained weights: from scratch, all of the network trains.
_SPARING = ("parameters", "batch_norm", "l2_sp")

_COUNTS = ("freeze_depth", "unfreeze_epoch", "epochs_per_group", "warmup_steps")


def complete_space(spec: StudySpec, *, num_groups: int) -> dict[str, Choice | Words]:
    """The space of a study, every field with what it is sampled from."""
    epochs = spec.train.epochs
    defaults: dict[str, Choice | Words] = {
        "freeze_depth": Range(low=0, high=num_groups),
        "unfreeze_epoch": Range(low=0, high=epochs - 1),
        "backbone_lr_ratio": Range(low=0.03, high=1.0, log=True),
        "head_lr": Range(low=3e-4, high=3e-2, log=True),
        "epochs_per_group": sorted({0, max(1, epochs // (4 * num_groups)), max(1, epochs // (2 * num_groups))}),
        "layer_lr_decay": 1.0,
        # Which arms there are. The sampler stays in one of them: from scratch is a few baselines.
        "pretrained": True if spec.model.weights == "none" else [True, False],
        **_DEFAULTS,
    }
    given = {name: getattr(spec.space, name) for name in Space.model_fields}
    return {name: default if given[name] is None else given[name] for name, default in defaults.items()}


def baselines(spec: StudySpec, *, num_groups: int) -> list[FreezingStrategy]:
    """The strategies everybody would try, at their usual rates: trial i of a study is baseline i while there is one.

    Rates and refinements move to the nearest that the study's space allows; a baseline whose structure the space
    excludes is left out.
    """
    epochs = spec.train.epochs
    space = complete_space(spec, num_groups=num_groups)
    usual = [
        FreezingStrategy.linear_probing(num_groups=num_groups, head_lr=1e-2),
        FreezingStrategy.full_fine_tuning(head_lr=3e-3, backbone_lr_ratio=0.3),
        FreezingStrategy.partial_freezing(freeze_depth=num_groups - 1, head_lr=3e-3),
        FreezingStrategy.partial_freezing(freeze_depth=num_groups // 2, head_lr=3e-3),
        FreezingStrategy.freeze_then_unfreeze(unfreeze_epoch=max(1, epochs // 4), head_lr=3e-3),
        FreezingStrategy.gradual_unfreezing(epochs_per_group=max(1, epochs // (4 * num_groups)), head_lr=3e-3),
        FreezingStrategy.from_scratch(head_lr=1e-3),
        FreezingStrategy.from_scratch(head_lr=3e-3),
    ]
    found: list[FreezingStrategy] = []
    for strategy in usual:
        usually = {name: getattr(strategy, name) for name in space}
        fixed = _STRUCTURE if strategy.pretrained else (*_STRUCTURE, *_SPARING)
        moved = {name: _nearest(space[name], value) for name, value in usually.items() if name not in fixed}
        baseline = FreezingStrategy.from_params(usually | moved).canonical(num_groups, epochs)
        asked = {"pretrained": baseline.pretrained, **fixed_params(baseline, spec, num_groups=num_groups)}
        if baseline not in found and all(_contains(space[name], asked[name]) for name in _STRUCTURE if name in asked):
            found.append(baseline)
    return found


def samples_pretrained(spec: StudySpec) -> bool:
    """Whether sampled trials start from the weights: always, unless the space says `pretrained = false`."""
    return spec.space.pretrained is None or _contains(spec.space.pretrained, True)


def fixed_params(baseline: FreezingStrategy, spec: StudySpec, *, num_groups: int) -> dict[str, Any]:
    """A baseline as the params to enqueue: every field that `suggest` will ask for, default or not."""
    refined = _refined(spec)
    names = _asked(baseline.freeze_depth, baseline.pretrained, num_groups, refined)
    # A canonical baseline spells a refinement that does nothing by its default, which the space may not have.
    return {
        name: _nearest(refined[name], getattr(baseline, name)) if name in refined else getattr(baseline, name)
        for name in names
    }


def suggest(trial: optuna.Trial, spec: StudySpec, *, num_groups: int, pretrained: bool = True) -> FreezingStrategy:
    """Sample one strategy, define-by-run: a field is asked for only where it means something.

    `pretrained=False` asks for the from-scratch arm: a baseline's, or all that the study's space allows.
    """
    space = complete_space(spec, num_groups=num_groups)
    depth = _suggest(trial, "freeze_depth", space["freeze_depth"])
    params = {"freeze_depth": depth}
    for name in _asked(depth, pretrained, num_groups, _refined(spec))[1:]:
        params[name] = False if name == "pretrained" else _suggest(trial, name, space[name])
    if not pretrained:
        trial.suggest_categorical("pretrained", [False])
    return strategy_of(params, spec, num_groups=num_groups)


def strategy_of(params: dict[str, Any], spec: StudySpec, *, num_groups: int) -> FreezingStrategy:
    """The canonical strategy that a trial's params spell."""
    return FreezingStrategy.from_params(params).canonical(num_groups, spec.train.epochs)


def _asked(depth: int, pretrained: bool, num_groups: int, refined: Collection[str]) -> list[str]:
    names = ["freeze_depth", "head_lr"]
    if depth < num_groups:
        names += ["unfreeze_epoch", "backbone_lr_ratio"]
    if num_groups - depth > 1:
        names += ["epochs_per_group", "layer_lr_decay"]
    names += [
        name for name in refined if name == "scheduler" or (depth < num_groups and (pretrained or name not in _SPARING))
    ]
    return names if pretrained else [*names, "pretrained"]


def _refined(spec: StudySpec) -> dict[str, Choice | Words]:
    # The refinements for which a study's space allows anything but the default, and what it allows.
    given = {name: getattr(spec.space, name) for name in _DEFAULTS}
    return {name: choice for name, choice in given.items() if set(ends(choice)) - {_DEFAULTS[name]}}


def _suggest(trial: optuna.Trial, name: str, choice: Choice | Words) -> Any:
    if not isinstance(choice, Range):
        return trial.suggest_categorical(name, choice if isinstance(choice, list) else [choice])
    if name in _COUNTS:
        return trial.suggest_int(name, int(choice.low), int(choice.high), log=choice.log)
    return trial.suggest_float(name, choice.low, choice.high, log=choice.log)


def _contains(choice: Choice | Words, value: Any) -> bool:
    if isinstance(choice, Range):
        return bool(choice.low <= value <= choice.high)
    return bool(value in choice if isinstance(choice, list) else value == choice)


def _nearest(choice: Choice | Words, value: Any) -> Any:
    if isinstance(choice, Range):
        return min(max(value, choice.low), choice.high)
    if not isinstance(choice, list):
        return choice
    # Of words, which have no distance, the first.
    return min(choice, key=lambda option: option != value if isinstance(option, str) else abs(option - value))
