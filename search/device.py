"""Devices, and the number format in which a network computes."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeFormat:
    """What a backbone is trained in; by default plain float32, in which it equals anybody's script.

    bfloat16: autocast; parameters, head, loss and optimizer stay in float32.
    channels_last: kernels and maps in NHWC order, from which depthwise convolutions on a CPU gain most.

    It is for what trains. Frozen layers are computed once, and a head alone is slower in bfloat16.
    """

    bfloat16: bool = False
    channels_last: bool = False

    def __str__(self) -> str:
        return ("bfloat16" if self.bfloat16 else "float32") + (", channels last" if self.channels_last else "")

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """Where a backbone runs that trains."""
        return torch.autocast(device.type, torch.bfloat16) if self.bfloat16 else nullcontext()

    def apply_memory_format(self, backbone: nn.Module) -> None:
        """Put the kernels in order, in place: the maps that go through them follow."""
        if self.channels_last:
            backbone.to(memory_format=torch.channels_last)


PLAIN = ComputeFormat()


def device_of(accelerator: str) -> torch.device:
    """The device that Lightning chooses for that `[train] accelerator`."""
    found = torch.accelerator.current_accelerator() if accelerator != "cpu" else None
    return found if found is not None and torch.accelerator.is_available() else torch.device("cpu")


def eval_batch(train_batch: int) -> int:
    """The batch size for evaluation, where nothing is kept for a backward pass."""
    return 8 * train_batch
