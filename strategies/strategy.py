"""A freezing strategy as one frozen value: which layers train, from when, at what rates."""

import math
import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from enum import StrEnum
from typing import Any, Literal, Self, get_args

from strategies.schedule import Schedule, Scheduler
from strategies.validation import abbreviated, check_choice, check_int, checked_float

Parameters = Literal["trainable", "all", "norm", "bias"]
BatchNorm = Literal["train", "frozen"]

CHOICES: dict[str, tuple[str, ...]] = {
    "scheduler": get_args(Scheduler),
    "parameters": get_args(Parameters),
    "batch_norm": get_args(BatchNorm),
}
"""Fields that take one of a few words, and the words."""


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

    freeze_depth: number of leading layer groups that never train; all of them: linear probing.
    unfreeze_epoch: first epoch in which the groups past the freeze depth train; before, the head trains alone (LP-FT,
        Kumar et al., 2022).
    backbone_lr_ratio: learning rate of the backbone's last group over the head's.
    head_lr: learning rate of the head.
    epochs_per_group: 0 unfreezes all groups at once; k one more every k epochs, head side first (gradual unfreezing,
        Howard & Ruder, 2018).
    layer_lr_decay: learning rate of each group over that of the group after it (discriminative fine-tuning, ibid.;
        timm's `layer_decay`).
    pretrained: False starts the backbone from random weights.
    lr_growth: factor by which a group's learning rate grows each epoch after its unfreezing, up to the head's
        (Lightning's `BackboneFinetuning`).
    warmup_steps: training steps (batches) from a group's unfreezing over which its learning rate rises evenly.
    scheduler: "constant", or "cosine" or "linear": all learning rates, the head's too, fall to 0 over the run.
    parameters: what trains of unfrozen groups. "trainable": all that required a gradient before the strategy came.
        "all": also what was frozen by hand (`requires_grad = False`). "norm": the trainable ones of normalisation
        layers. "bias": the trainable 1-D ones of that name, the norms' too (BitFit, Ben Zaken et al., 2022).
    batch_norm: "frozen" keeps statistics and weights of unfrozen groups' batch norms as pretrained (torchvision's
        `FrozenBatchNorm2d`).
    l2_sp: replaces weight decay of unfrozen backbone parameters by the gradient of l2_sp/2 ||w - w0||^2 (Li et al.,
        2018). w0 is the start. From random weights it is off.
    epochs, steps_per_epoch: the budget of the search. None if unknown; steps are None too if an epoch is one pass over
        the training data.

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
    parameters: Parameters = "trainable"
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
        """Unfreeze one more group every few epochs, at rates that fall towards the input (ULMFiT)."""
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
        """Train everything from random weights at one rate: the bar for transfer."""
        return cls(freeze_depth=0, head_lr=head_lr, backbone_lr_ratio=1.0, pretrained=False)

    # -- params <-> strategy ---------------------------------------------------------------------------

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Return the strategy of a trial's params, or of a saved file's table.

        Raises `ValueError` for an unknown or missing field, and as the class does.
        """
        allowed = [field.name for field in fields(cls)]
        unknown = sorted(set(params) - set(allowed))
        if unknown:
            name = abbreviated(unknown[0])[1:-1]
            raise ValueError(f"`{name}` is not a strategy's field; allowed: {', '.join(allowed)}.")
        if "freeze_depth" not in params:
            raise ValueError("`freeze_depth` is missing.")
        return cls(**params)

    def to_params(self, *, defaults: bool = True) -> dict[str, Any]:
        """Return every field that is known, for `study.enqueue_trial(strategy.to_params())`.

        Optuna samples a field that is left out. `defaults=False` leaves out what has its default, except `head_lr`.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        usual = {} if defaults else {field.name: field.default for field in fields(self) if field.name != "head_lr"}
        return {name: value for name, value in values.items() if value is not None and value != usual.get(name)}

    # -- strategy -> behaviour ----------------------------------------------------------------------------

    def schedule(self, num_groups: int, max_epochs: int | None = None) -> Schedule:
        """Return the schedule for a backbone of `num_groups`; groups never unfreeze from `max_epochs` on.

        Raises `ValueError` if the freeze depth exceeds `num_groups`.
        """
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
        """True if L2-SP replaces weight decay in the backbone."""
        return self.pretrained and self.l2_sp > 0

    def canonical(self, num_groups: int, epochs: int) -> Self:
        """Return the one spelling of all strategies that behave like this one for `epochs` epochs.

        Groups that would unfreeze too late count as frozen; fields without effect take their defaults. All growths that
        reach the head's rate within one epoch are one.
        """
        schedule = self.schedule(num_groups, epochs)
        depth = schedule.frozen_prefix(epochs)
        # Growth needs an epoch after the unfreezing, and a rate below the head's.
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
        """Return the family of a canonical strategy: the first that matches, in the order below."""
        if not self.pretrained:
            return Family.FROM_SCRATCH
        if self.freeze_depth >= num_groups:
            return Family.LINEAR_PROBING
        if self.epochs_per_group > 0 and num_groups - self.freeze_depth > 1:
            return Family.GRADUAL_UNFREEZING
        if self.unfreeze_epoch > 0:
            return Family.FREEZE_THEN_UNFREEZE
        if self.freeze_depth > 0 or self.parameters in ("norm", "bias"):  # norms or biases alone: most stays frozen
            return Family.PARTIAL_FREEZING
        return Family.FULL_FINE_TUNING

    def rescaled(self, *, epochs: int) -> Self:
        """Return the strategy for a run of `epochs`, events at the same fractions of it.

        Epochs are rounded down, so that no group falls out of the run; what is above 0 stays at least 1. Learning rates
        have grown as far at the same fraction.

        Raises `ValueError` if the strategy's own `epochs` is unknown.
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
