"""Frostline's own networks: small ones for images, and stacked LSTM layers for series."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def small_cnn() -> nn.Module:
    """Build three 3x3 convolution blocks and a linear layer, for 8x8 grey images; 64 features."""
    return nn.Sequential(
        OrderedDict(
            block1=nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
            block2=nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            block3=nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            linear=nn.Sequential(nn.Flatten(), nn.Linear(256, 64), nn.ReLU()),
        )
    )


def lenet(*, channels: int = 1) -> nn.Module:
    """Build LeNet-5 (LeCun et al., 1998) with ReLU and max pooling; 84 features."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Sequential(nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            conv2=nn.Sequential(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
            linear1=nn.Sequential(nn.Flatten(), nn.Linear(400, 120), nn.ReLU()),
            linear2=nn.Sequential(nn.Linear(120, 84), nn.ReLU()),
        )
    )


class StackedLSTM(nn.Module):
    """Stacked LSTM layers in one `nn.LSTM`, a layer group each.

    The features are the last layer's final hidden state. Inputs are series (N, T, C) of `input_size` channels, or
    {"values": (N, T, C) padded with zeros, "lengths": (N,)}.
    """

    def __init__(
        self,
        *,
        input_size: int,
        hidden_size: int = 64,
        num_layers: int = 3,
        bidirectional: bool = False,
        dropout: float = 0.0,
        proj_size: int = 0,
    ) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            input_size,
            hidden_size,
            num_layers,
            batch_first=True,
            dropout=dropout,
            bidirectional=bidirectional,
            proj_size=proj_size,
        )

    def forward(self, inputs: Tensor | dict[str, Tensor]) -> Tensor:
        if isinstance(inputs, dict):
            series: Any = nn.utils.rnn.pack_padded_sequence(
                inputs["values"], inputs["lengths"].cpu(), batch_first=True, enforce_sorted=False
            )
        else:
            series = inputs
        _, (hidden, _) = self.lstm(series)
        # (layers * directions, N, F): the last layer's, forwards and, where there is one, backwards.
        return torch.cat(list(hidden[-2 if self.lstm.bidirectional else -1 :]), dim=1)


BACKBONES: Mapping[str, Callable[..., nn.Module]] = {"small_cnn": small_cnn, "lenet": lenet, "lstm": StackedLSTM}
