"""The search space: its defaults, its baselines, and strategies from params."""

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any

import optuna

from search.spec.study_spec import StudySpec
from search.spec.tables import Space
from search.spec.values import Range, ends
from strategies import FreezingStrategy

Choices = Range | list[Any]
"""The values to sample a field from."""

_STRUCTURE = ("freeze_depth", "unfreeze_epoch", "epochs_per_group", "pretrained")
"""The fields that make a baseline what it is; the others are rates and refinements."""
_DEFAULTS: dict[str, Any] = {
    field.name: field.default
    for field in fields(FreezingStrategy)
    if field.name in ("lr_growth", "warmup_steps", "scheduler", "parameters", "batch_norm", "l2_sp")
}
"""Refinements with their defaults, which they keep unless a study asks for others."""
_SPARING = ("parameters", "batch_norm", "l2_sp")
"""Refinements that spare pretrained weights: from scratch, all of the network trains."""
_COUNTS = ("freeze_depth", "unfreeze_epoch", "epochs_per_group", "warmup_steps")


def complete_space(spec: StudySpec, *, num_groups: int) -> dict[str, Choices]:
    """Return every field with the values to sample it from."""
    epochs = spec.train.epochs
    defaults: dict[str, Any] = {
        "freeze_depth": Range(low=0, high=num_groups),
        "unfreeze_epoch": Range(low=0, high=epochs - 1),
        "backbone_lr_ratio": Range(low=0.03, high=1.0, log=True),
        "head_lr": Range(low=3e-4, high=3e-2, log=True),
        "epochs_per_group": sorted({0, max(1, epochs // (4 * num_groups)), max(1, epochs // (2 * num_groups))}),
        "layer_lr_decay": 1.0,
        # From scratch is for a few baselines; the sampler never leaves the pretrained arm.
        "pretrained": True if spec.model.weights == "none" else [True, False],
        **_DEFAULTS,
    }
    given = {name: choice for name in Space.model_fields if (choice := getattr(spec.space, name)) is not None}
    return {name: c if isinstance(c, Range | list) else [c] for name, c in (defaults | given).items()}


def baselines(spec: StudySpec, *, num_groups: int) -> list[FreezingStrategy]:
    """Return the strategies that everybody would try, as the space allows them."""
    epochs = spec.train.epochs
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
    return fitting(usual, spec, num_groups=num_groups)


def fitting(strategies: Sequence[FreezingStrategy], spec: StudySpec, *, num_groups: int) -> list[FreezingStrategy]:
    """Return strategies as the study's space allows them, each once.

    Rates and refinements move to the nearest value in the space. A strategy is left out if the space excludes its
    structure.
    """
    space = complete_space(spec, num_groups=num_groups)
    found: list[FreezingStrategy] = []
    for strategy in strategies:
        fixed = _STRUCTURE if strategy.pretrained else (*_STRUCTURE, *_SPARING)
        values = {name: getattr(strategy, name) for name in space} | {"parameters": spec.widest}
        moved = {name: _nearest(space[name], value) for name, value in values.items() if name not in fixed}
        baseline = spec.strategy(values | moved, num_groups=num_groups)
        asked = {"pretrained": baseline.pretrained, **fixed_params(baseline, spec, num_groups=num_groups)}
        if baseline not in found and all(_contains(space[name], asked[name]) for name in _STRUCTURE if name in asked):
            found.append(baseline)
    return found


def samples_pretrained(spec: StudySpec) -> bool:
    """Return whether sampled trials start from pretrained weights: unless the space says `pretrained = false`."""
    return spec.space.pretrained is None or True in ends(spec.space.pretrained)


def fixed_params(baseline: FreezingStrategy, spec: StudySpec, *, num_groups: int) -> dict[str, Any]:
    """Return a baseline's params to enqueue: every field that `suggest` asks for, default or not."""
    space, refined = complete_space(spec, num_groups=num_groups), _refined(spec)
    params = {name: getattr(baseline, name) for name in _asked(baseline, num_groups, refined)}
    # A canonical baseline spells a refinement without effect by its default, which the space may not have.
    return {name: _nearest(space[name], value) if name in refined else value for name, value in params.items()}


def suggest(trial: optuna.Trial, spec: StudySpec, *, num_groups: int, pretrained: bool = True) -> FreezingStrategy:
    """Sample a strategy, asking for each field only where it has an effect.

    `pretrained=False` samples from the from-scratch arm: for its baselines, or if the space allows nothing else.
    """
    space = complete_space(spec, num_groups=num_groups)
    params = {"freeze_depth": _suggest(trial, "freeze_depth", space["freeze_depth"])}
    arm = FreezingStrategy(freeze_depth=params["freeze_depth"], pretrained=pretrained)
    for name in _asked(arm, num_groups, _refined(spec))[1:]:
        params[name] = _suggest(trial, name, [False] if name == "pretrained" else space[name])
    return spec.strategy(params, num_groups=num_groups)


def _asked(strategy: FreezingStrategy, num_groups: int, refined: Collection[str]) -> list[str]:
    """Return the fields to ask for at a strategy's depth and arm, freeze depth first."""
    trained = num_groups - strategy.freeze_depth
    names = ["freeze_depth", "head_lr"]
    if trained > 0:
        names += ["unfreeze_epoch", "backbone_lr_ratio"]
    if trained > 1:
        names += ["epochs_per_group", "layer_lr_decay"]
    names += [
        name
        for name in refined
        if name == "scheduler" or (trained > 0 and (strategy.pretrained or name not in _SPARING))
    ]
    return names if strategy.pretrained else [*names, "pretrained"]


def _refined(spec: StudySpec) -> list[str]:
    """Return the refinements for which a study's space allows more than the default."""
    return [name for name, default in _DEFAULTS.items() if {*ends(getattr(spec.space, name))} - {default}]


def _suggest(trial: optuna.Trial, name: str, choice: Choices) -> Any:
    if isinstance(choice, list):
        return trial.suggest_categorical(name, choice)
    if name in _COUNTS:
        return trial.suggest_int(name, int(choice.low), int(choice.high), log=choice.log)
    return trial.suggest_float(name, choice.low, choice.high, log=choice.log)


def _contains(choice: Choices, value: Any) -> bool:
    return value in choice if isinstance(choice, list) else bool(choice.low <= value <= choice.high)


def _nearest(choice: Choices, value: Any) -> Any:
    if isinstance(choice, Range):
        return min(max(value, choice.low), choice.high)
    # Words have no distance: else the first.
    return min(choice, key=lambda option: option != value if isinstance(option, str) else abs(option - value))
