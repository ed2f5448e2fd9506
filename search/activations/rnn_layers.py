"""The layers of a stacked RNN one by one: torch runs them in one call, but each is a layer group of its own."""

from collections.abc import Iterator
from inspect import signature
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

KINDS: dict[type[nn.Module], int] = {nn.LSTM: 2, nn.GRU: 1, nn.RNN: 1}
"""What can be taken apart, and how many states a layer has: hidden and, in an LSTM, cell."""


class Layer:
    """One layer of a stacked RNN, with the parameters of the whole.

    Takes a series, time first (T, N, C) or packed, and the initial states of all layers (layers * directions, N, H),
    or none. Returns a series (T, N, H * directions) and its own final states, each (directions, N, H).
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

    def __call__(self, series: Any, states: Any = None) -> tuple[Any, ...]:
        rnn = self.rnn
        if self.index and rnn.dropout and rnn.training:  # as the whole does between its layers
            packed = isinstance(series, PackedSequence)
            data = dropout(series.data if packed else series, rnn.dropout)
            series = series._replace(data=data) if packed else data
        several = isinstance(states, tuple)
        own = [self._own(state) for state in (states if several else (states,)) if state is not None]
        self.alone.training = rnn.training  # cuDNN's backward pass asks for it
        series, final = self.alone(series, (tuple(own) if several else own[0]) if own else None)
        return (series, *final) if isinstance(final, tuple) else (series, final)

    def _own(self, state: Tensor) -> Tensor:
        directions = 1 + self.rnn.bidirectional
        return state[self.index * directions : (self.index + 1) * directions]


def bound(backbone: nn.Module, target: str) -> nn.Module | Layer:
    """A backbone's part by name: a module, or a layer of an RNN as its layer group is called (`lstm.layer0`)."""
    path, _, last = target.rpartition(".")
    parent = backbone.get_submodule(path)
    if isinstance(parent, nn.RNNBase):
        return Layer(parent, index=int(last.removeprefix("layer")))
    return backbone.get_submodule(target)


def can_be_taken_apart(module: nn.Module) -> bool:
    """Whether it is torch's own class, and its weights are not made of others (`weight_norm`)."""
    return type(module) in KINDS and not module._forward_pre_hooks


def trace(tracer: fx.Tracer, rnn: nn.Module, path: str, series: Any, states: Any = None) -> tuple[Any, Any]:
    """Put the call of an RNN into a trace, layer by layer; returns proxies of what it returns."""
    assert isinstance(rnn, nn.RNNBase)
    series = tracer.create_proxy("call_function", time_first, (series, rnn.batch_first), {})
    finals: list[list[Any]] = [[] for _ in range(KINDS[type(rnn)])]
    for index in range(rnn.num_layers):
        layer: Any = tracer.create_proxy("call_module", f"{path}.layer{index}", (series, states), {})
        series = layer[0]
        for place, final in enumerate(finals, start=1):
            final.append(layer[place])
    stacked = tuple(
        Rows(
            tracer.create_proxy("call_function", stack, (final,), {}).node,
            tracer,
            [(state, direction) for state in final for direction in range(1 + rnn.bidirectional)],
        )
        for final in finals
    )
    series = tracer.create_proxy("call_function", time_first, (series, rnn.batch_first), {})
    return series, stacked if len(stacked) > 1 else stacked[0]


class Rows(fx.Proxy):
    """Stacked states in a trace: their number is known, so code may loop over them, and each is that of one layer.

    rows: of each state, the states of its layer (directions, N, H) and its direction.
    """

    def __init__(self, node: fx.Node, tracer: Any, rows: list[tuple[Any, int]]) -> None:
        super().__init__(node, tracer)
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, int):  # a last layer's state needs no other layer's
            layer, direction = self._rows[key]
            return layer[direction]
        found = super().__getitem__(key)  # type: ignore[misc]
        return Rows(found.node, self.tracer, self._rows[key]) if isinstance(key, slice) else found


def time_first(series: Any, batch_first: bool) -> Any:
    """(N, T, C) -> (T, N, C) and back; what is packed has no such order."""
    return series.transpose(0, 1) if batch_first and isinstance(series, Tensor) else series


def stack(states: list[Tensor]) -> Tensor:
    """The layers' final states, each (directions, N, H), as an RNN returns them: (layers * directions, N, H)."""
    return torch.cat(states)


def padded_length(node: fx.Node) -> fx.Node | None:
    """The step that knows to which length a packed series was padded before; None if that isn't to be found."""
    while node.target is not pack_padded_sequence:
        if not node.args or not isinstance(node.args[0], fx.Node):
            return None
        node = node.args[0]
    return next((user for given in node.all_input_nodes for user in given.users if user.target is length), None)


def note_lengths(graph: fx.Graph) -> None:
    """After each packing, a step that says to which length the series was padded."""
    for node in [node for node in graph.nodes if node.target is pack_padded_sequence]:
        given = signature(pack_padded_sequence).bind(*node.args, **node.kwargs).arguments
        with graph.inserting_after(node):
            graph.call_function(length, (given["input"], given.get("batch_first", False)))


def length(series: Tensor, batch_first: bool) -> int:
    return series.size(1 if batch_first else 0)
