"""A freezing strategy: one frozen value that says which layers train, from when, and at what rates."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from enum import StrEnum
from typing import Any, Self

from strategies.schedule import Schedule


class Family(StrEnum):
    """The names the field has for regions of the strategy space."""

    LINEAR_PROBING = "linear probing"
    PARTIAL_FREEZING = "partial freezing"
    FULL_FINE_TUNING = "full fine-tuning"
    FREEZE_THEN_UNFREEZE = "freeze-then-unfreeze"
    GRADUAL_UNFREEZING = "gradual unfreezing"
    FROM_SCRATCH = "from scratch"


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezingStrategy:
    """Which leading layer groups stay frozen, when the rest thaws, and at what learning rates.

    freeze_depth: how many leading layer groups never train; 0 = none, the number of groups = linear probing.
    unfreeze_epoch: the first epoch in which the groups past the freeze depth train; only the head does before
        (LP-FT, Kumar et al., 2022).
    backbone_lr_ratio: learning rate of the backbone's last group over the head's.
    head_lr: learning rate of the head.
    epochs_per_group: 0 thaws all groups at once; k thaws one more every k epochs, head side first (gradual
        unfreezing, Howard & Ruder, 2018).
    layer_lr_decay: learning rate of each group over that of the group after it (discriminative fine-tuning,
        ibid.; timm's `layer_decay`).
    pretrained: False starts the backbone from random weights.
    epochs, steps_per_epoch: the budget the strategy was searched with. None where it is unknown, or, for the
        steps, where an epoch is one pass over the training data.

    Raises `ValueError` on a value out of range and `TypeError` on a wrong type, naming the field.
    """

    freeze_depth: int
    unfreeze_epoch: int = 0
    backbone_lr_ratio: float = 0.1
    head_lr: float = 1e-3
    epochs_per_group: int = 0
    layer_lr_decay: float = 1.0
    pretrained: bool = True
    epochs: int | None = None
    steps_per_epoch: int | None = None

    def __post_init__(self) -> None:
        _check_int("freeze_depth", self.freeze_depth, least=0)
        _check_int("unfreeze_epoch", self.unfreeze_epoch, least=0)
        _check_int("epochs_per_group", self.epochs_per_group, least=0)
        for name in ("backbone_lr_ratio", "head_lr", "layer_lr_decay"):
            object.__setattr__(self, name, _positive_float(name, getattr(self, name)))
        if not isinstance(self.pretrained, bool):
            raise TypeError(f"`pretrained` must be true or false, got {self.pretrained!r}.")
        for name in ("epochs", "steps_per_epoch"):
            if getattr(self, name) is not None:
                _check_int(name, getattr(self, name), least=1)

    # -- presets over the same fields ------------------------------------------------------------------

    @classmethod
    def linear_probing(cls, *, num_groups: int, head_lr: float = 1e-2) -> Self:
        """Train the head alone on frozen features."""
        return cls(freeze_depth=num_groups, head_lr=head_lr)

    @classmethod
    def partial_freezing(cls, *, freeze_depth: int, head_lr: float = 1e-3, backbone_lr_ratio: float = 1.0) -> Self:
        """Freeze the first `freeze_depth` groups, train the rest from the start."""
        return cls(freeze_depth=freeze_depth, head_lr=head_lr, backbone_lr_ratio=backbone_lr_ratio)

    @classmethod
    def full_fine_tuning(cls, *, head_lr: float = 1e-3, backbone_lr_ratio: float = 1.0) -> Self:
        """Train everything from the start."""
        return cls(freeze_depth=0, head_lr=head_lr, backbone_lr_ratio=backbone_lr_ratio)

    @classmethod
    def freeze_then_unfreeze(
        cls, *, unfreeze_epoch: int, head_lr: float = 1e-3, backbone_lr_ratio: float = 0.3
    ) -> Self:
        """Train the head first, then everything (LP-FT, Kumar et al., 2022)."""
        return cls(freeze_depth=0, unfreeze_epoch=unfreeze_epoch, head_lr=head_lr, backbone_lr_ratio=backbone_lr_ratio)

    @classmethod
    def gradual_unfreezing(
        cls,
        *,
        epochs_per_group: int,
        unfreeze_epoch: int = 1,
        head_lr: float = 1e-3,
        backbone_lr_ratio: float = 0.4,
        layer_lr_decay: float = 1 / 2.6,
    ) -> Self:
        """Thaw one more group every few epochs, head side first, at rates that fall towards the input (ULMFiT)."""
        return cls(
            freeze_depth=0,
            unfreeze_epoch=unfreeze_epoch,
            head_lr=head_lr,
            backbone_lr_ratio=backbone_lr_ratio,
            epochs_per_group=epochs_per_group,
            layer_lr_decay=layer_lr_decay,
        )

    @classmethod
    def from_scratch(cls, *, head_lr: float = 1e-3) -> Self:
        """Train everything from random weights at one rate: what transfer has to beat."""
        return cls(freeze_depth=0, head_lr=head_lr, backbone_lr_ratio=1.0, pretrained=False)

    # -- params <-> strategy ---------------------------------------------------------------------------

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """The strategy that a trial's params (or a saved file's table) spell."""
        allowed = [field.name for field in fields(cls)]
        unknown = sorted(set(params) - set(allowed))
        if unknown:
            raise ValueError(f"`{unknown[0]}` is not a strategy's field; allowed: {', '.join(allowed)}.")
        if "freeze_depth" not in params:
            raise ValueError("`freeze_depth` is missing.")
        return cls(**params)

    def to_params(self) -> dict[str, Any]:
        """The fields that differ from their defaults, with `freeze_depth` and `head_lr` always among them."""
        always = ("freeze_depth", "head_lr")
        return {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default or field.name in always
        }

    # -- what the values mean ----------------------------------------------------------------------------

    def schedule(self, num_groups: int, max_epochs: int | None = None) -> Schedule:
        """What trains when in a backbone of `num_groups`; a group that would thaw at `max_epochs` never does."""
        if self.freeze_depth > num_groups:
            raise ValueError(
                f"`freeze_depth` must be between 0 and {num_groups}, the backbone's number of layer groups, "
                f"got {self.freeze_depth}."
            )
        thaw_epochs: list[int | None] = []
        lr_shares: list[float] = []
        for group in range(num_groups):
            from_head = num_groups - 1 - group
            thaw = self.unfreeze_epoch + self.epochs_per_group * from_head
            if group < self.freeze_depth or (max_epochs is not None and thaw >= max_epochs):
                thaw_epochs.append(None)
                lr_shares.append(0.0)
            else:
                thaw_epochs.append(thaw)
                lr_shares.append(self.backbone_lr_ratio * self.layer_lr_decay**from_head)
        return Schedule(thaw_epochs=tuple(thaw_epochs), lr_shares=tuple(lr_shares))

    def canonical(self, num_groups: int, epochs: int) -> Self:
        """The one spelling of everything that behaves like this strategy for `epochs` epochs.

        Groups that would thaw too late count as frozen; fields that then mean nothing take their defaults.
        """
        depth = self.schedule(num_groups, epochs).frozen_prefix(epochs)
        unused: set[str] = set()
        if depth == num_groups:
            unused |= {"unfreeze_epoch", "backbone_lr_ratio"}
        if num_groups - depth <= 1:
            unused |= {"epochs_per_group", "layer_lr_decay"}
        defaults = {f.name: f.default for f in fields(self) if f.name in unused and f.default is not MISSING}
        return replace(self, freeze_depth=depth, **defaults)

    def family(self, num_groups: int) -> Family:
        """The family of a canonical strategy; the first that matches, in the order below."""
        if not self.pretrained:
            return Family.FROM_SCRATCH
        if self.freeze_depth >= num_groups:
            return Family.LINEAR_PROBING
        if self.epochs_per_group > 0 and num_groups - self.freeze_depth > 1:
            return Family.GRADUAL_UNFREEZING
        if self.unfreeze_epoch > 0:
            return Family.FREEZE_THEN_UNFREEZE
        return Family.PARTIAL_FREEZING if self.freeze_depth > 0 else Family.FULL_FINE_TUNING

    def rescaled(self, *, epochs: int) -> Self:
        """The same strategy for a run of `epochs` epochs, its thaws at the same fractions of the run.

        Rounded down, so that what thaws within the run still does, but never to 0: the head keeps its lead of
        at least one epoch, and the groups theirs, where there was one.
        """
        _check_int("epochs", epochs, least=1)
        if self.epochs is None:
            raise ValueError("`epochs`, the budget the strategy was made for, is not known; set it first.")
        unfreeze, per_group = (
            max(1, value * epochs // self.epochs) if value else 0
            for value in (self.unfreeze_epoch, self.epochs_per_group)
        )
        return replace(self, unfreeze_epoch=unfreeze, epochs_per_group=per_group, epochs=epochs)


def _check_int(name: str, value: Any, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be a whole number, got {value!r}.")
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}, got {value}.")


def _positive_float(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"`{name}` must be a number, got {value!r}.")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"`{name}` must be finite and greater than 0, got {value}.")
    return float(value)
