"""The order in which a module runs its children, read off its `forward` without inputs."""

import warnings
from collections.abc import Iterator
from inspect import Parameter as Argument
from inspect import signature

import torch
from torch import fx, nn

from strategies.layer_kinds import Child, has_forward, has_parameters, is_pooling, is_upsampling
from strategies.module_names import join, prefixes

Step = tuple[str, Child]
"""A child's or own parameter's name, and itself; "" for a pooling or upsampling that is no child, or is run again."""

_FUNCTIONS = {"pool": nn.MaxPool1d(1), "interpolate": nn.Upsample(), "upsample": nn.Upsample()}
"""What stands for a function with such a name."""


def steps(module: nn.Module) -> tuple[list[Step], set[str]]:
    """A module's children and own parameters in order of execution, and which of them never run in evaluation.

    From where `forward` can't be traced any further: own parameters, then children, as registered.
    """
    parameters: dict[str, Child] = dict(module.named_parameters(recurse=False))
    children: dict[str, Child] = dict(_children(module))
    known = parameters | children
    order: list[Step] = []
    run: set[str] = set()
    events, complete = _trace(module)
    for event in events:
        if isinstance(event, nn.Module):
            order.append(("", event))
            continue
        name = next((prefix for prefix in prefixes(event) if prefix in known), "")
        if name and name not in run:
            run.add(name)
            order.append((name, known[name]))
        elif name and (is_pooling(known[name]) or is_upsampling(known[name])):
            order.append(("", known[name]))
    if not any(has_parameters(known[name]) for name in run):
        return list(known.items()), set()
    rest = {name for name, child in known.items() if name not in run and (has_parameters(child) or not complete)}
    tables = [(name, child) for name, child in parameters.items() if name in rest]
    layers = [(name, child) for name, child in children.items() if name in rest]
    return [*tables, *order, *layers], rest if complete else set()


def _children(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Direct children; a list or dict of modules, which can't be called, stands for what it holds."""
    for name, child in module.named_children():
        listed = isinstance(child, (nn.ModuleList, nn.ModuleDict)) and not has_forward(child)
        held = list(_children(child)) if listed else []
        yield from ((join(name, n), c) for n, c in held) if held else [(name, child)]


class _Shallow(fx.Tracer):
    """Runs one module's `forward` on symbols and none of its children's: some milliseconds, no inputs."""

    proxy_buffer_attributes = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _trace(module: nn.Module) -> tuple[list[str | nn.Module], bool]:
    """What `forward` uses in evaluation, in order, and whether that is all: much code can't run on symbols to its end.

    Modules and parameters stand by name, functions by what does the same. A chain runs as registered, so nothing is
    to be learned. Arguments with a default keep it. It runs on a stand-in, so what `forward` stores does not stay on
    the module.
    """
    if getattr(type(module), "forward", None) in (nn.Sequential.forward, nn.Module.forward):
        return [], False
    tracer, complete = _Shallow(), True
    try:
        stand_in = type(module).__new__(type(module))
        state = {k: v.copy() if isinstance(v, dict | list | set) else v for k, v in vars(module).items()}
        vars(stand_in).update(state, training=False)
        arguments = signature(type(module).forward).parameters.values()
        defaults = {a.name: a.default for a in arguments if a.default is not Argument.empty}
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            tracer.trace(stand_in, concrete_args=defaults)
    except Exception:  # other people's code on symbols may raise anything
        complete = False
    nodes = tracer.graph.nodes if hasattr(tracer, "graph") else ()
    return [event for node in nodes if (event := _event(node)) is not None], complete


def _event(node: fx.Node) -> str | nn.Module | None:
    if node.op in ("call_module", "get_attr"):
        return str(node.target)
    name = getattr(node.target, "__name__", str(node.target)) if node.op == "call_function" else "adaptive"
    return next((m for word, m in _FUNCTIONS.items() if word in name and "adaptive" not in name), None)
