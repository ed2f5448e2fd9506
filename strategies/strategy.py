"""A freezing strategy: one frozen value that says which layers train, from when, and at what rates."""

import math
import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from enum import StrEnum
from typing import Any, Literal, Self, get_args

from strategies.schedule import Schedule, Scheduler
from strategies.validation import abbreviated, check_choice, check_int, checked_float

Parameters = Literal["all", "norm", "bias"]
BatchNorm = Literal["train", "frozen"]

CHOICES: dict[str, tuple[str, ...]] = {
    "scheduler": get_args(Scheduler),
    "parameters": get_args(Parameters),
    "batch_norm": get_args(BatchNorm),
}
"""The fields that are one of a few words, and the words."""


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
    """Which leading layer groups stay frozen, when the rest unfreezes, and at what learning rates.

    freeze_depth: how many leading layer groups never train; 0 = none, the number of groups = linear probing.
    unfreeze_epoch: the first epoch in which the groups past the freeze depth train; only the head does before
        (LP-FT, Kumar et al., 2022).
    backbone_lr_ratio: learning rate of the backbone's last group over the head's.
    head_lr: learning rate of the head.
    epochs_per_group: 0 unfreezes all groups at once; k unfreezes one more every k epochs, head side first (gradual
        unfreezing, Howard & Ruder, 2018).
    layer_lr_decay: learning rate of each group over that of the group after it (discriminative fine-tuning,
        ibid.; timm's `layer_decay`).
    pretrained: False starts the backbone from random weights.
    lr_growth: each epoch after a group has unfrozen its learning rate grows by this factor, until it is the
        head's (gradual alignment, as in Lightning's `BackboneFinetuning`).
    warmup_steps: over this many training steps (batches) from its unfreezing a group's learning rate rises evenly.
    scheduler: "constant", or "cosine" or "linear": all learning rates, the head's too, fall to 0 over the run.
    parameters: which parameters of unfrozen groups train: "all"; "norm", those of the normalisation layers; or
        "bias", all 1-D ones named so, the norms' too (BitFit, Ben Zaken et al., 2022).
    batch_norm: "frozen" keeps the batch norm of unfrozen groups as pretrained: its stored statistics and its
        weights (torchvision's `FrozenBatchNorm2d`).
    l2_sp: pulls unfrozen backbone parameters to where they started: adds the gradient of l2_sp/2 ||w - w0||^2,
        in place of weight decay (Li et al., 2018). From random weights there is nothing to keep: it is off.
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
    lr_growth: float = 1.0
    warmup_steps: int = 0
    scheduler: Scheduler = "constant"
    parameters: Parameters = "all"
    batch_norm: BatchNorm = "train"
    l2_sp: float = 0.0
    epochs: int | None = None
    steps_per_epoch: int | None = None

    def __post_init__(self) -> None:
        for name in ("freeze_depth", "unfreeze_epoch", "epochs_per_group", "warmup_steps"):
            check_int(name, getattr(self, name), least=0)
        for name in ("backbone_lr_ratio", "head_lr", "layer_lr_decay"):
            object.__setattr__(self, name, checked_float(name, getattr(self, name)))
        for name, least in (("lr_growth", 1), ("l2_sp", 0)):
            object.__setattr__(self, name, checked_float(name, getattr(self, name), least=least))
        for name, allowed in CHOICES.items():
            check_choice(name, getattr(self, name), allowed=allowed)
        if not isinstance(self.pretrained, bool):
            raise TypeError(f"`pretrained` must be true or false, got {abbreviated(self.pretrained)}.")
        for name in ("epochs", "steps_per_epoch"):
            if getattr(self, name) is not None:
                check_int(name, getattr(self, name), least=1)

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
        """Unfreeze one more group every few epochs, head side first, at rates that fall towards the input (ULMFiT)."""
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
            name = abbreviated(unknown[0])[1:-1]
            raise ValueError(f"`{name}` is not a strategy's field; allowed: {', '.join(allowed)}.")
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
        """What trains when in a backbone of `num_groups`; a group that would unfreeze at `max_epochs` never does."""
        if self.freeze_depth > num_groups:
            raise ValueError(
                f"`freeze_depth` must be between 0 and {num_groups}, the backbone's number of layer groups, "
                f"got {self.freeze_depth}."
            )
        unfreeze_epochs: list[int | None] = []
        lr_shares: list[float] = []
        for group in range(num_groups):
            from_head = num_groups - 1 - group
            unfreeze = self.unfreeze_epoch + self.epochs_per_group * from_head
            if group < self.freeze_depth or (max_epochs is not None and unfreeze >= max_epochs):
                unfreeze_epochs.append(None)
                lr_shares.append(0.0)
            else:
                unfreeze_epochs.append(unfreeze)
                lr_shares.append(self.backbone_lr_ratio * self.layer_lr_decay**from_head)
        return Schedule(
            unfreeze_epochs=tuple(unfreeze_epochs),
            lr_shares=tuple(lr_shares),
            lr_growth=self.lr_growth,
            warmup_steps=self.warmup_steps,
            scheduler=self.scheduler,
            max_epochs=max_epochs,
        )

    @property
    def pulls_back(self) -> bool:
        """Whether unfrozen backbone parameters are pulled to where they started, in place of weight decay."""
        return self.pretrained and self.l2_sp > 0

    def canonical(self, num_groups: int, epochs: int) -> Self:
        """The one spelling of everything that behaves like this strategy for `epochs` epochs.

        Groups that would unfreeze too late count as frozen; fields that then mean nothing take their defaults. A
        growth that reaches the head's rate in one epoch, from wherever it starts, is one however steep it is.
        """
        schedule = self.schedule(num_groups, epochs)
        depth = schedule.frozen_prefix(epochs)
        # What has an epoch after that of its unfreezing, and a way to go, can grow.
        unfreezes = zip(schedule.unfreeze_epochs, schedule.lr_shares, strict=True)
        growing = [
            share for unfreeze, share in unfreezes if unfreeze is not None and unfreeze < epochs - 1 and 0 < share < 1
        ]
        unused: set[str] = set()
        if depth == num_groups:
            unused |= {"unfreeze_epoch", "backbone_lr_ratio", "warmup_steps", "parameters", "batch_norm", "l2_sp"}
        if num_groups - depth <= 1:
            unused |= {"epochs_per_group", "layer_lr_decay"}
        if not self.pretrained:
            unused |= {"l2_sp"}
        defaults = {f.name: f.default for f in fields(self) if f.name in unused and f.default is not MISSING}
        growth = min(self.lr_growth, 1 / min(growing)) if growing else 1.0
        return replace(self, freeze_depth=depth, lr_growth=growth, **defaults)

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
        if self.freeze_depth > 0 or self.parameters != "all":  # norms or biases alone: most of it stays frozen
            return Family.PARTIAL_FREEZING
        return Family.FULL_FINE_TUNING

    def rescaled(self, *, epochs: int) -> Self:
        """The same strategy for a run of `epochs` epochs, all that happens at the same fractions of the run.

        Unfreezes are rounded down, so that what unfreezes within the run still does, but never to 0: the head keeps its
        lead of at least one epoch, and the groups theirs, where there was one. Warm-ups take the same fraction
        of the run, at least one step where there was one, and learning rates have grown as far by then.
        """
        check_int("epochs", epochs, least=1)
        if self.epochs is None:
            raise ValueError("`epochs`, the budget the strategy was made for, is not known; set it first.")
        clocked: dict[str, Any] = {
            name: max(1, getattr(self, name) * epochs // self.epochs) if getattr(self, name) else 0
            for name in ("unfreeze_epoch", "epochs_per_group", "warmup_steps")
        }
        faster = self.epochs / epochs
        steep = faster * math.log(self.lr_growth) > math.log(sys.float_info.max)
        growth = sys.float_info.max if steep else self.lr_growth**faster
        return replace(self, **clocked, lr_growth=growth, epochs=epochs)
