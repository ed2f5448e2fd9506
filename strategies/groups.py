"""The backbone's ordered parts, input side first."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.parameter import is_lazy

from strategies.module_names import prefixes
from strategies.partition import partition


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LayerGroup:
    """One of the backbone's ordered parts: its parameters, and every module with some of them.

    parameter_names: full names in the backbone, aligned with `parameters`.
    """

    name: str
    parameters: tuple[nn.Parameter, ...]
    modules: tuple[nn.Module, ...]
    parameter_names: tuple[str, ...]


Groups = Sequence[str | Sequence[str]] | Sequence[LayerGroup]
"""Patterns over parameter names, or the result of `layer_groups` for the same module."""


def layer_groups(
    backbone: nn.Module, *, groups: Groups | None = None, head: nn.Module | None = None
) -> list[LayerGroup]:
    """Return the backbone's layer groups, input side first, from the module alone.

    It needs no inputs and no weights: a module on the meta device will do.

    groups: glob patterns over parameter names, one or a list of them a layer group, input side first; the first match
        wins (`["stem.*", ["layer1.*", "layer2.*"]]`). Layer groups are returned as they are.
    head: if it is a part of the backbone (a last layer replaced in place), the groups are those of the rest.

    Without `groups`, these rules hold:

    1. A timm model's groups are its own `group_matcher(coarse=True)`; unmatched parameters join the last.
    2. Otherwise a group is a child that owns parameters, in order of execution: `torch.fx` traces the backbone's
       `forward` in evaluation, without entering children. Children past the end of the trace follow as registered.
       Elements of an `nn.ModuleList` count as children.
    3. An only part is opened, and while there are fewer than four, the largest part that can be. An `nn.Sequential`
       can be, a module that holds one or a list, and one whose only part is such. A block cannot be: an element of a
       list, or one of several of its class.
    4. Each layer of an `nn.LSTM`, `nn.GRU` or `nn.RNN` anywhere is a group (`lstm.layer0`).
    5. Embeddings make the first group: `nn.Embedding` anywhere, others, by their name, at the input only. Embeddings
       inside a later part join the part before it. Own parameters (a class token) join the part after which they are
       used, the first if that is unknown.
    6. A child without a matrix (norm, activation, scale) joins the part before it, as do a pooler and a DenseNet's
       transition. A downsampling joins the stage after it: a norm and one layer (ConvNeXt), a patch merging (Swin).
       A child that never runs in evaluation (Inception's auxiliary head) joins the last.
    7. Convolutions between two poolings make one group (VGG, LeNet), and an `nn.Sequential` of them is always opened.
       Neither an upsampling nor transposed convolutions (a decoder) are inside such a group.
    8. The few architectures that these rules misread have a table, `strategies.layer_kinds.JOINS`.

    A module or parameter in several places (tied weights) is in the first group that uses it. Every parameter is in
    exactly one group.

    Raises `ValueError` if the backbone has no parameters, or lazy ones without a shape, or some that the head has too.
    It does so too if a pattern matches nothing, or if no pattern matches a parameter.
    """
    given = [group for group in groups or () if isinstance(group, LayerGroup)]
    patterns = [[g] if isinstance(g, str) else list(g) for g in groups or () if not isinstance(g, LayerGroup)]
    originals: dict[nn.Module, nn.Module] = {}
    found = given or _find_groups(_without(backbone, head, originals), patterns, originals)
    if head is not None:
        _refuse_shared(found, _without(head, backbone, {}))
    return found


def _find_groups(
    backbone: nn.Module, patterns: Sequence[Sequence[str]], originals: Mapping[nn.Module, nn.Module]
) -> list[LayerGroup]:
    named = dict(backbone.named_parameters(remove_duplicate=False))
    if not named:
        raise ValueError("The backbone has no parameters, so there is nothing to freeze.")
    lazy = [name for name, parameter in named.items() if is_lazy(parameter)]
    if lazy:
        raise ValueError(f"The lazy parameter {lazy[0]!r} has no shape yet: run one batch through the backbone first.")
    parts = _by_pattern(named, patterns) if patterns else partition(backbone)
    places = {name: index for index, (_, held) in enumerate(parts) for name in held}
    place = {name: index for name in named if (index := _index_of(name, places)) is not None}
    owner = {_memory(named[name]): place[name] for name in sorted(place, key=lambda name: -place[name])}
    if missed := [name for name, parameter in named.items() if _memory(parameter) not in owner]:
        raise ValueError(f"No pattern of `groups` matches the parameter {missed[0]!r}.")
    used = sorted(set(owner.values()))
    if patterns and (empty := [name for index, (name, _) in enumerate(parts) if index not in used]):
        raise ValueError(f"The pattern {empty[0]!r} of `groups` matches no parameter of its own.")
    members: dict[int, dict[nn.Parameter, str]] = {index: {} for index in used}
    for name in sorted(named, key=lambda name: place.get(name, len(parts))):
        members[owner[_memory(named[name])]].setdefault(named[name], name)
    # All of a part may be tied to earlier ones: its modules join the part before it.
    homes = {name: used[max(bisect_right(used, index) - 1, 0)] for name, index in places.items()}
    modules = _modules(backbone, homes)
    return [
        LayerGroup(
            name=parts[index][0],
            parameters=tuple(owned),
            modules=tuple(originals.get(module, module) for module in modules[index]),
            parameter_names=tuple(owned.values()),
        )
        for index, owned in members.items()
    ]


def _by_pattern(named: Iterable[str], patterns: Sequence[Sequence[str]]) -> list[tuple[str, list[str]]]:
    parts, left = [], list(named)
    for alternatives in patterns:
        held = [name for name in left if any(fnmatchcase(name, pattern) for pattern in alternatives)]
        left = [name for name in left if name not in set(held)]
        parts.append((", ".join(alternatives), held))
    return parts


def _memory(parameter: nn.Parameter) -> int:
    """Return a key of its values: `a.weight.data = b.weight.data` ties two parameters."""
    return (not is_lazy(parameter) and parameter.data_ptr()) or id(parameter)


def _without(module: nn.Module, part: nn.Module | None, originals: dict[nn.Module, nn.Module]) -> nn.Module:
    """Return a module with an identity in a part's place, in copied containers."""
    if module is part:
        return nn.Identity()
    if part not in set(module.modules()):
        return module
    copy = type(module).__new__(type(module))
    children = {name: child and _without(child, part, originals) for name, child in module._modules.items()}
    vars(copy).update(vars(module), _modules=children)
    originals[copy] = module
    return copy


def _refuse_shared(groups: Sequence[LayerGroup], head: nn.Module) -> None:
    own = {_memory(parameter): name for name, parameter in head.named_parameters()}
    held = [pair for group in groups for pair in zip(group.parameter_names, group.parameters, strict=True)]
    tied = {name: own[_memory(parameter)] for name, parameter in held if _memory(parameter) in own}
    if tied:
        weight = f"head.{next(iter(tied.values()))}"
        raise ValueError(
            f"Parameters are shared between backbone and head: {', '.join(tied)}. Untie the head by a copy, {weight} = "
            f"nn.Parameter({weight}.detach().clone()), or take the whole model as backbone and nn.Identity() as head."
        )


def _modules(backbone: nn.Module, places: Mapping[str, int]) -> dict[int, list[nn.Module]]:
    """Return the modules of each group.

    A container belongs to every group with a part in it. A leaf without parameters (a pooling, a dropout) belongs to
    the part around it, else to that of the leaf registered before it.
    """
    homes: dict[nn.Module, set[int]] = {}
    current = min(places.values())
    for name, module in backbone.named_modules(remove_duplicate=False):
        own = [_index_of(n, places) for n, _ in module.named_parameters(name, recurse=False, remove_duplicate=False)]
        known = [index for index in own if index is not None]
        if known:
            current = known[-1]
        elif own or next(module.children(), None) is not None:
            continue
        indices = set(known) or {current if (index := _index_of(name, places)) is None else index}
        homes[module] = min(homes.get(module, indices), indices, key=min)
    modules: dict[int, list[nn.Module]] = {index: [] for index in places.values()}
    for module in backbone.modules():
        for index in {index for inner in module.modules() for index in homes.get(inner, ())}:
            modules[index].append(module)
    return modules


def _index_of(name: str, places: Mapping[str, int]) -> int | None:
    return next((places[prefix] for prefix in prefixes(name) if prefix in places), None)
