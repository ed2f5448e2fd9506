"""The order in which a module runs its children, found from its `forward` without inputs."""

import warnings
from collections.abc import Iterator
from inspect import Parameter as Argument
from inspect import signature

import torch
from torch import fx, nn

from strategies.layer_kinds import Child, has_forward, has_parameters, is_pooling, is_upsampling
from strategies.module_names import join, prefixes

Step = tuple[str, Child]
"""A child or own parameter; "" for poolings and upsamplings in code or repeated."""

_MODULES_OF_FUNCTIONS = {"pool": nn.MaxPool1d(1), "interpolate": nn.Upsample(), "upsample": nn.Upsample()}
"""Modules that do the same as functions with such a word in their names."""


def forward_order(module: nn.Module) -> tuple[list[Step], set[str]]:
    """Return children and own parameters in order of execution, and the names of unused ones.

    Evaluation counts. Where `forward` cannot be traced further, own parameters follow, then children, as registered.
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
    own = [(name, child) for name, child in parameters.items() if name in rest]
    layers = [(name, child) for name, child in children.items() if name in rest]
    return [*own, *order, *layers], rest if complete else set()


def _children(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield direct children, and in place of a list or dict of modules its own."""
    for name, child in module.named_children():
        listed = isinstance(child, (nn.ModuleList, nn.ModuleDict)) and not has_forward(child)
        held = list(_children(child)) if listed else []
        yield from ((join(name, n), c) for n, c in held) if held else [(name, child)]


class _ShallowTracer(fx.Tracer):
    """Runs one module's `forward` on symbols, and no child's: no inputs, some milliseconds."""

    proxy_buffer_attributes = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _trace(module: nn.Module) -> tuple[list[str | nn.Module], bool]:
    """Return what `forward` uses in evaluation, in order, and whether the trace reached its end.

    Modules and parameters appear by name, functions as a module that does the same. Much code cannot run on symbols to
    its end. An `nn.Sequential` runs as registered and is not traced.
    """
    if getattr(type(module), "forward", None) in (nn.Sequential.forward, nn.Module.forward):
        return [], False
    tracer, complete = _ShallowTracer(), True
    try:
        # Attributes that `forward` sets must not stay on the module, so a copy of it runs.
        copy = type(module).__new__(type(module))
        state = {k: v.copy() if isinstance(v, dict | list | set) else v for k, v in vars(module).items()}
        vars(copy).update(state, training=False)
        arguments = signature(type(module).forward).parameters.values()
        defaults = {a.name: a.default for a in arguments if a.default is not Argument.empty}
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            tracer.trace(copy, concrete_args=defaults)
    except Exception:  # other people's code on symbols may raise anything
        complete = False
    nodes = tracer.graph.nodes if hasattr(tracer, "graph") else ()
    return [event for node in nodes if (event := _event(node)) is not None], complete


def _event(node: fx.Node) -> str | nn.Module | None:
    if node.op in ("call_module", "get_attr"):
        return str(node.target)
    name = getattr(node.target, "__name__", str(node.target)) if node.op == "call_function" else "adaptive"
    return next((m for word, m in _MODULES_OF_FUNCTIONS.items() if word in name and "adaptive" not in name), None)
