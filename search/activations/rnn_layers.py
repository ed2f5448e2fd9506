"""The layers of a stacked RNN one by one, since each is a layer group."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence

KINDS = (nn.LSTM, nn.GRU, nn.RNN)


def can_be_split(module: nn.Module) -> bool:
    """Return whether a module is of torch's own class, without `weight_norm`."""
    return type(module) in KINDS and not module._forward_pre_hooks


class Layer:
    """One layer of a stacked RNN, with the parameters of the whole.

    series: time first (T, N, C), or packed.
    finals: final states of the layers before it, for each kind of state.
    states: initial states of all layers (layers * directions, N, H), or None.

    Returns the series and the final states up to its own.
    """

    def __init__(self, rnn: nn.RNNBase, *, index: int) -> None:
        self.rnn = rnn
        self.index = index
        width = rnn.hidden_size if rnn.proj_size == 0 else rnn.proj_size
        options: dict[str, Any] = {"bias": rnn.bias, "bidirectional": rnn.bidirectional, "device": "meta"}
        if isinstance(rnn, nn.RNN):
            options["nonlinearity"] = rnn.nonlinearity
        if isinstance(rnn, nn.LSTM):
            options["proj_size"] = rnn.proj_size
        inputs = rnn.input_size if index == 0 else width * (1 + rnn.bidirectional)
        self.alone: nn.RNNBase = type(rnn)(inputs, rnn.hidden_size, **options)  # type: ignore[arg-type]
        for name, _ in [*self.alone.named_parameters()]:
            setattr(self.alone, name, getattr(rnn, name.replace("_l0", f"_l{index}")))

    def __call__(self, *args: Any) -> tuple[Any, ...]:
        return self.forward(*args)

    def forward(self, series: Any, finals: Sequence[Tensor], states: Any) -> tuple[Any, ...]:
        rnn = self.rnn
        if self.index and rnn.dropout and rnn.training:  # as the whole does between its layers
            packed = isinstance(series, PackedSequence)
            data = dropout(series.data if packed else series, rnn.dropout)
            series = series._replace(data=data) if packed else data
        directions = 1 + rnn.bidirectional
        rows = slice(self.index * directions, (self.index + 1) * directions)
        own = tuple(state[rows] for state in states) if isinstance(states, tuple) else states
        self.alone.training = rnn.training  # cuDNN's backward pass asks for it
        series, final = self.alone(series, own[rows] if isinstance(own, Tensor) else own)
        new = final if isinstance(final, tuple) else (final,)
        return (series, *(torch.cat(both) for both in zip(finals, new, strict=True))) if finals else (series, *new)


class Layers:
    """The `forward` of a stacked RNN that runs one `Layer` after another."""

    def __init__(self, rnn: nn.RNNBase) -> None:
        self.rnn = rnn
        self.layers = [Layer(rnn, index=index) for index in range(rnn.num_layers)]

    def __call__(self, series: Any, states: Any = None) -> tuple[Any, Any]:
        finals: Sequence[Tensor] = ()
        series = self._turned(series)
        for layer in self.layers:
            series, *finals = layer(series, finals, states)
        return self._turned(series), tuple(finals) if isinstance(self.rnn, nn.LSTM) else finals[0]

    def _turned(self, series: Any) -> Any:
        """Return the series time first, or back; what is packed has no such order."""
        return series.transpose(0, 1) if self.rnn.batch_first and isinstance(series, Tensor) else series


def split_rnns(backbone: nn.Module, names: set[str]) -> tuple[list[tuple[nn.RNNBase, Layers]], dict[str, Layer]]:
    """Split the RNNs whose layers are among the names (`lstm.layer0`), as their groups are called."""
    rnns = {
        name: (module, Layers(module))
        for name, module in backbone.named_modules()
        if isinstance(module, nn.RNNBase) and can_be_split(module) and f"{name}.layer0".removeprefix(".") in names
    }
    layers = {f"{name}.layer{layer.index}": layer for name, (_, whole) in rnns.items() for layer in whole.layers}
    return [*rnns.values()], layers
