"""Devices, and the number format in which a network computes."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeFormat:
    """The format in which a trained backbone computes; plain float32 by default.

    bfloat16: autocast; parameters, head, loss and optimizer stay in float32.
    channels_last: kernels and feature maps in NHWC order, which helps depthwise convolutions on a CPU most.

    Frozen layers don't use it: they are computed once, and a head alone is slower in bfloat16.
    """

    bfloat16: bool = False
    channels_last: bool = False

    def __str__(self) -> str:
        return ("bfloat16" if self.bfloat16 else "float32") + (", channels last" if self.channels_last else "")

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """Return the context in which a backbone that trains runs."""
        return torch.autocast(device.type, torch.bfloat16) if self.bfloat16 else nullcontext()

    def apply_memory_format(self, backbone: nn.Module) -> None:
        """Reorder the kernels in place; the feature maps follow."""
        if self.channels_last:
            backbone.to(memory_format=torch.channels_last)


PLAIN = ComputeFormat()


def device_of(accelerator: str) -> torch.device:
    """Return the device that Lightning chooses for a `[train] accelerator`."""
    found = torch.accelerator.current_accelerator() if accelerator != "cpu" else None
    return found if found is not None and torch.accelerator.is_available() else torch.device("cpu")


def eval_batch(train_batch: int) -> int:
    """Return the batch size for evaluation, where nothing is kept for a backward pass."""
    return 8 * train_batch
