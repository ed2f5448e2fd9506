"""When each layer group thaws and at what share of the head's learning rate: a pure value."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The freezing schedule of one run, one entry per layer group, input side first.

    `thaw_epochs[g]` is the first epoch in which group `g` trains, or None if it never does.
    `lr_shares[g]` is its learning rate over the head's, 0 if it never trains. The head always trains.
    """

    thaw_epochs: tuple[int | None, ...]
    lr_shares: tuple[float, ...]

    @property
    def num_groups(self) -> int:
        return len(self.thaw_epochs)

    def trainable(self, epoch: int) -> tuple[bool, ...]:
        """Whether each layer group trains in `epoch` (counted from 0)."""
        return tuple(thaw is not None and thaw <= epoch for thaw in self.thaw_epochs)

    def frozen_prefix(self, epoch: int) -> int:
        """How many leading groups are still frozen in `epoch`: their output is a constant of the example."""
        trainable = self.trainable(epoch)
        return trainable.index(True) if True in trainable else self.num_groups

    @property
    def last_unfreezing(self) -> int:
        """The epoch in which the last group thaws; 0 if none ever does."""
        return max((thaw for thaw in self.thaw_epochs if thaw is not None), default=0)
