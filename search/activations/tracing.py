"""A backbone's `forward` as a program of steps, traced on the symbols of `torch.fx` (Reed et al., 2022).

A module that holds parts of one layer group only is one step, which runs as it is; others are entered.
"""

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.utils import rnn as packing

from search.activations import rnn_layers
from search.activations.partial_forward import Homes
from search.data.examples import Tensors

Parts = Mapping[str, Any]
"""A backbone's modules and layers by the names of a program's steps, "" the backbone itself."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Program:
    """The steps of a pass through a backbone, the inputs first and the output last, by index.

    constants: tensors that its code made while it was traced.
    """

    nodes: tuple[fx.Node, ...]
    index: Mapping[fx.Node, int]
    constants: Mapping[str, Tensor]

    @property
    def text(self) -> list[str]:
        return [f"{node.op} {node.target} {node.args} {node.kwargs}" for node in self.nodes]

    def sources(self, step: int) -> set[int]:
        """The steps whose results a step takes."""
        return {self.index[node] for node in self.nodes[step].all_input_nodes}

    def runs(self, step: int) -> bool:
        return self.nodes[step].op not in ("placeholder", "output")

    def part(self, step: int, parts: Parts) -> Any:
        """The module, layer or parameter that a step uses; None for a function, a method or a constant."""
        target = str(self.nodes[step].target)
        if self.nodes[step].op == "get_attr" and target not in self.constants:
            return attrgetter(target)(parts[""])
        return parts[target] if self.nodes[step].op == "call_module" else None

    def parts(self, backbone: nn.Module) -> dict[str, Any]:
        names = {str(node.target) for node in self.nodes if node.op == "call_module"}
        return {name: rnn_layers.bound(backbone, name) for name in names} | {"": backbone}

    def run(self, parts: Parts, plan: Iterable[tuple[int, Sequence[int]]], results: dict[int, Any]) -> None:
        """Run steps on the results of earlier ones; with each stand those that nobody wants after it."""
        for step, dead in plan:
            node = self.nodes[step]
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda source: results[self.index[source]])
            match node.op:
                case "call_module":
                    results[step] = parts[str(node.target)](*args, **kwargs)
                case "call_method":
                    results[step] = getattr(args[0], str(node.target))(*args[1:], **kwargs)
                case "call_function":
                    results[step] = node.target(*args, **kwargs)  # type: ignore[operator]
                case _:
                    made = self.constants.get(str(node.target))
                    results[step] = self.part(step, parts) if made is None else made
            for gone in dead:
                results.pop(gone, None)


def trace(backbone: nn.Module, homes: Homes, examples: Tensors) -> Program:
    """The program of a backbone in the modes that its modules are in. Raises whatever its code raises on symbols."""
    entry = _Entry(backbone, [*examples] if isinstance(examples, dict) else None)
    graph = _Tracer(homes).trace(entry)
    for node in reversed(graph.nodes):  # what is only unpacked keeps nothing alive
        if not node.users and node.target in (rnn_layers.stack, rnn_layers.time_first, operator.getitem):
            graph.erase_node(node)
    rnn_layers.note_lengths(graph)
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            node.target = str(node.target).removeprefix("backbone.")
    nodes = tuple(graph.nodes)
    constants = {name: value for name, value in vars(entry).items() if isinstance(value, Tensor)}
    return Program(nodes=nodes, index={node: index for index, node in enumerate(nodes)}, constants=constants)


class _Entry(nn.Module):
    """Gives a backbone the one argument it takes; a dict is a real one, as code asks for its type and keys."""

    def __init__(self, backbone: nn.Module, keys: list[str] | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.keys = keys

    def forward(self, inputs: Any) -> Any:
        return self.backbone(inputs if self.keys is None else {key: inputs[key] for key in self.keys})


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True

    def __init__(self, homes: Homes) -> None:
        super().__init__(autowrap_functions=(packing.pack_padded_sequence, packing.pad_packed_sequence))
        self._autowrap_search.append(packing)  # for code that spells out their full names
        self._homes = homes

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not isinstance(m, _Entry) and (isinstance(m, nn.RNNBase) or not self._homes.are_several(m))

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if rnn_layers.can_be_taken_apart(m) and self._homes.are_several(m):
            return rnn_layers.trace(self, m, self.path_of_module(m), *args, **kwargs)
        return super().call_module(m, forward, args, kwargs)
