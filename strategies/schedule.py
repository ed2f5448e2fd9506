"""A pure value: when each layer group unfreezes, and its learning rates."""

import math
from dataclasses import dataclass
from typing import Literal

Scheduler = Literal["constant", "cosine", "linear"]
"""The fall of all learning rates over the run: none, or to near 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The freezing schedule of one run, one entry per layer group, input side first.

    unfreeze_epochs: the first epoch in which each group trains; None if it never does.
    lr_shares: each group's learning rate over the head's when it unfreezes; 0 if it never trains.

    The head always trains. The other fields are as in `FreezingStrategy`; see `lr_factors`.
    """

    unfreeze_epochs: tuple[int | None, ...]
    lr_shares: tuple[float, ...]
    lr_growth: float = 1.0
    warmup_steps: int = 0
    scheduler: Scheduler = "constant"
    max_epochs: int | None = None

    @property
    def num_groups(self) -> int:
        return len(self.unfreeze_epochs)

    def trainable(self, epoch: int) -> tuple[bool, ...]:
        """Return for each layer group whether it trains in `epoch`, counted from 0."""
        return tuple(unfreeze is not None and unfreeze <= epoch for unfreeze in self.unfreeze_epochs)

    def frozen_prefix(self, epoch: int) -> int:
        """Return the number of leading groups that are frozen in `epoch`."""
        trainable = self.trainable(epoch)
        return trainable.index(True) if True in trainable else self.num_groups

    @property
    def last_unfreezing(self) -> int:
        """The epoch in which the last group unfreezes; 0 if none ever does."""
        return max((unfreeze for unfreeze in self.unfreeze_epochs if unfreeze is not None), default=0)

    @property
    def unfreezes_midway(self) -> bool:
        """True if any group is frozen at first and trains later."""
        return self.last_unfreezing > 0

    @property
    def rates_move(self) -> bool:
        """True if the strategy changes learning rates during the run."""
        unfreezes = any(unfreeze is not None for unfreeze in self.unfreeze_epochs)
        return self.scheduler != "constant" or (unfreezes and (self.lr_growth > 1 or self.warmup_steps > 0))

    def lr_factors(self, epoch: int, *, step: int, steps_per_epoch: int) -> tuple[float, ...]:
        """Return the factor of each layer group's learning rate in a step, the head's last.

        They multiply `lr_shares` times the head's rate, and that rate itself. `step` counts from 0 in each epoch. A
        frozen group has the factor 0. In epoch e and step i after its unfreezing a group has growth x warm-up x
        scheduler, the head the scheduler alone:

            growth      g^e, until the rate is the head's; a group that starts above the head stays there
            warm-up     (i + 1) / (w + 1) while i < w, then 1: the first step is above 0
            scheduler   (1 + cos(pi t)) / 2, or 1 - t, at the share t < 1 of the run's steps

        Raises `ValueError` if there is a scheduler and `max_epochs` is unknown.
        """
        now = epoch * steps_per_epoch + step
        overall = self._scheduled(now, steps_per_epoch)
        factors = []
        for unfreeze, share in zip(self.unfreeze_epochs, self.lr_shares, strict=True):
            if unfreeze is None or unfreeze > epoch:
                factors.append(0.0)
                continue
            warm = min(1.0, (now - unfreeze * steps_per_epoch + 1) / (self.warmup_steps + 1))
            factors.append(self._grown(share, epoch - unfreeze) * warm * overall)
        return (*factors, overall)

    def _grown(self, share: float, epochs: int) -> float:
        if not 0 < share < 1:
            return 1.0
        # As logarithms, for the power may exceed any float.
        reached = epochs * math.log(self.lr_growth) >= -math.log(share)
        return 1 / share if reached else self.lr_growth**epochs

    def _scheduled(self, step: int, steps_per_epoch: int) -> float:
        if self.scheduler == "constant":
            return 1.0
        if self.max_epochs is None:
            raise ValueError(f"`scheduler` = {self.scheduler!r} needs the number of epochs of the run.")
        done = step / (self.max_epochs * steps_per_epoch)
        return (1 + math.cos(math.pi * done)) / 2 if self.scheduler == "cosine" else 1 - done
