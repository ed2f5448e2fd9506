"""The backbone's ordered parts, input side first, and how to freeze and thaw them."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LayerGroup:
    """One of the backbone's ordered parts: its parameters, and every module with a part in it."""

    name: str
    parameters: tuple[nn.Parameter, ...]
    modules: tuple[nn.Module, ...]


def layer_groups(backbone: nn.Module, *, groups: Sequence[str] | None = None) -> list[LayerGroup]:
    """The backbone's layer groups, input side first.

    By default a group is a direct child that owns parameters, in the order of registration, which for a chain
    of stages (`nn.Sequential`, a ResNet without its `fc`) is the order of execution. A normalisation layer
    joins the group before it; parameters of the backbone itself join the first group; an only child is
    entered. `groups` overrides this: glob patterns over parameter names, one a group, input side first, the
    first match wins (`["stem.*", "layer1.*"]`).

    Raises `ValueError` for a backbone without parameters, a pattern that matches nothing, a parameter that no
    pattern matches, or one parameter shared by two groups.
    """
    named = list(backbone.named_parameters(remove_duplicate=False))
    if not named:
        raise ValueError("The backbone has no parameters, so there is nothing to freeze.")
    names, owner = _by_pattern(named, groups) if groups else _by_child(backbone)

    members: list[dict[int, nn.Parameter]] = [{} for _ in names]
    for parameter_name, parameter in named:
        members[owner[parameter_name]][id(parameter)] = parameter
    for index, group in enumerate(members):
        for other in members[:index]:
            if shared := group.keys() & other.keys():
                tied = [n for n, p in named if id(p) in shared]
                raise ValueError(f"Parameters are shared between layer groups: {', '.join(tied)}.")

    modules: list[list[nn.Module]] = [[] for _ in names]
    current = 0
    touched: dict[str, set[int]] = {}
    for module_name, module in backbone.named_modules():
        own = [f"{module_name}.{n}" if module_name else n for n, _ in module.named_parameters(recurse=False)]
        if not own and next(module.children(), None) is not None:
            continue
        if own:
            current = owner[own[-1]]
        # A leaf without parameters (a pooling, a dropout) goes with the one before it; a container belongs to
        # every group that has a part in it.
        for index in {owner[n] for n in own} or {current}:
            for prefix in _prefixes(module_name):
                touched.setdefault(prefix, set()).add(index)
    for module_name, module in backbone.named_modules():
        for index in touched.get(module_name, ()):
            modules[index].append(module)
    return [
        LayerGroup(name=name, parameters=tuple(parameters.values()), modules=tuple(owned))
        for name, parameters, owned in zip(names, members, modules, strict=True)
    ]


def set_trainable(groups: Sequence[LayerGroup], trainable: Sequence[bool]) -> None:
    """Thaw or freeze each group: `requires_grad`, and `train()` or `eval()`.

    Frozen means constant: no gradient, no dropout, batch norm with its stored statistics and those still.
    """
    modes: dict[int, tuple[nn.Module, bool]] = {}
    for group, trains in zip(groups, trainable, strict=True):
        for parameter in group.parameters:
            parameter.requires_grad_(trains)
        for module in group.modules:
            modes[id(module)] = (module, trains or modes.get(id(module), (module, False))[1])
    # `train()` recurses, so containers go first and their parts have the last word; unlike setting
    # `.training`, it respects modules that override it.
    for module, trains in sorted(modes.values(), key=lambda entry: -sum(1 for _ in entry[0].modules())):
        module.train(trains)


def _by_child(backbone: nn.Module) -> tuple[list[str], dict[str, int]]:
    prefix, module = "", backbone
    while True:
        children = [(n, c) for n, c in module.named_children() if next(c.parameters(), None) is not None]
        if len(children) != 1 or next(module.parameters(recurse=False), None) is not None:
            break
        if next(children[0][1].children(), None) is None:
            break
        prefix, module = f"{prefix}{children[0][0]}.", children[0][1]
    names: list[str] = []
    owner: dict[str, int] = {}
    for child_name, child in children:
        if not names or not isinstance(child, _NORMS):
            names.append(child_name)
        for parameter_name, _ in child.named_parameters(remove_duplicate=False):
            owner[f"{prefix}{child_name}.{parameter_name}"] = len(names) - 1
    for parameter_name, _ in module.named_parameters(recurse=False):
        owner[prefix + parameter_name] = 0
    return names or [type(backbone).__name__], owner


_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)


def _by_pattern(named: Sequence[tuple[str, nn.Parameter]], patterns: Sequence[str]) -> tuple[list[str], dict[str, int]]:
    owner: dict[str, int] = {}
    for name, _ in named:
        matches = [index for index, pattern in enumerate(patterns) if fnmatchcase(name, pattern)]
        if not matches:
            raise ValueError(f"No pattern of `groups` matches the parameter {name!r}.")
        owner[name] = matches[0]
    for index, pattern in enumerate(patterns):
        if index not in owner.values():
            raise ValueError(f"The pattern {pattern!r} of `groups` matches no parameter of its own.")
    return list(patterns), owner


def _prefixes(module_name: str) -> list[str]:
    parts = module_name.split(".") if module_name else []
    return [".".join(parts[:length]) for length in range(len(parts) + 1)]
