"""The backbone's ordered parts, input side first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.parameter import is_lazy

from strategies.module_names import join, prefixes
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


Groups = Sequence[str] | Sequence[LayerGroup]
"""Patterns over parameter names, or the result of `layer_groups` for the same module."""


def layer_groups(backbone: nn.Module, *, groups: Groups | None = None) -> list[LayerGroup]:
    """Return the backbone's layer groups, input side first, from the module alone.

    It needs no inputs and no weights: a module on the meta device will do.

    groups: glob patterns over parameter names, one a layer group, input side first; the first match wins
        (`["stem.*", "layer1.*"]`). Layer groups are returned as they are. Without `groups`, these rules hold:

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

    A module in several places belongs to the first. Every parameter is in exactly one group.

    Raises `ValueError` if the backbone has no parameters, or lazy ones without a shape, or if two groups share one. It
    does so too if a pattern matches nothing, or if no pattern matches a parameter.
    """
    given = [group for group in groups or () if isinstance(group, LayerGroup)]
    if given:
        return given
    patterns = [group for group in groups or () if isinstance(group, str)]
    named = {join(m, n): p for m, module in backbone.named_modules() for n, p in _own(module)}
    if not named:
        raise ValueError("The backbone has no parameters, so there is nothing to freeze.")
    lazy = [name for name, parameter in named.items() if is_lazy(parameter)]
    if lazy:
        raise ValueError(f"The lazy parameter {lazy[0]!r} has no shape yet: run one batch through the backbone first.")
    parts = _by_pattern(named, patterns) if patterns else partition(backbone)
    places = {name: index for index, (_, held) in enumerate(parts) for name in held}
    owner = {name: index for name in named if (index := _index_of(name, places)) is not None}
    _refuse_tied(named, owner)

    members: list[dict[int, tuple[str, nn.Parameter]]] = [{} for _ in parts]
    for name, parameter in named.items():
        members[owner[name]].setdefault(id(parameter), (name, parameter))
    return [
        LayerGroup(
            name=name,
            parameters=tuple(parameter for _, parameter in owned.values()),
            modules=tuple(modules),
            parameter_names=tuple(parameter_name for parameter_name, _ in owned.values()),
        )
        for (name, _), owned, modules in zip(parts, members, _modules(backbone, owner, places), strict=True)
        if owned  # a repeated module is in the group of its first place
    ]


def _by_pattern(named: Mapping[str, nn.Parameter], patterns: Sequence[str]) -> list[tuple[str, list[str]]]:
    held: list[list[str]] = [[] for _ in patterns]
    for name in named:
        matches = [index for index, pattern in enumerate(patterns) if fnmatchcase(name, pattern)]
        if not matches:
            raise ValueError(f"No pattern of `groups` matches the parameter {name!r}.")
        held[matches[0]].append(name)
    for pattern, names in zip(patterns, held, strict=True):
        if not names:
            raise ValueError(f"The pattern {pattern!r} of `groups` matches no parameter of its own.")
    return list(zip(patterns, held, strict=True))


def _refuse_tied(named: Mapping[str, nn.Parameter], owner: Mapping[str, int]) -> None:
    names: dict[int, list[str]] = {}
    for name, parameter in named.items():
        names.setdefault(id(parameter), []).append(name)
    for tied in names.values():
        if len({owner[name] for name in tied}) > 1:
            raise ValueError(
                f"Parameters are shared between layer groups: {', '.join(tied)}. Name groups of your own (`groups`) "
                "that hold them in one."
            )


def _modules(backbone: nn.Module, owner: Mapping[str, int], places: Mapping[str, int]) -> list[list[nn.Module]]:
    """Return the modules of each group.

    A container belongs to every group with a part in it. A leaf without parameters (a pooling, a dropout) belongs to
    the part around it, else to that of the leaf registered before it.
    """
    touched: dict[str, set[int]] = {}
    current = 0
    for name, module in backbone.named_modules():
        own = [owner[join(name, n)] for n, _ in _own(module)]
        if own:
            current = own[-1]
        elif next(module.children(), None) is not None:
            continue
        indices = set(own) or {current if (index := _index_of(name, places)) is None else index}
        for prefix in prefixes(name):
            touched.setdefault(prefix, set()).update(indices)
    modules: list[list[nn.Module]] = [[] for _ in range(max(places.values()) + 1)]
    for name, module in backbone.named_modules():
        for index in touched.get(name, ()):
            modules[index].append(module)
    return modules


def _own(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return list(module.named_parameters(recurse=False))


def _index_of(name: str, places: Mapping[str, int]) -> int | None:
    return next((places[prefix] for prefix in prefixes(name) if prefix in places), None)
