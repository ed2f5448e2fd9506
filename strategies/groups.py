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
    """One of the backbone's ordered parts: its parameters, and every module with a part in it.

    parameter_names: their full names in the backbone, aligned with `parameters`.
    """

    name: str
    parameters: tuple[nn.Parameter, ...]
    modules: tuple[nn.Module, ...]
    parameter_names: tuple[str, ...]


Groups = Sequence[str] | Sequence[LayerGroup]
"""Patterns over parameter names, or what `layer_groups` gave for the same module: then nothing is read off again."""


def layer_groups(backbone: nn.Module, *, groups: Groups | None = None) -> list[LayerGroup]:
    """The backbone's layer groups, input side first, read off the module alone: no inputs, no weights (meta will do).

    `groups` names them: glob patterns over parameter names, one a group, input side first, the first match wins
    (`["stem.*", "layer1.*"]`); groups that are given as such are given back. Without it:

    1. A timm model's groups are its own `group_matcher(coarse=True)`; what it leaves unmatched joins the last.
    2. Otherwise a group is a child that owns parameters, in order of execution as far as `torch.fx` can trace the
       backbone's `forward` (in evaluation; children are not entered), from there on as registered. What a list
       (`nn.ModuleList`) holds counts as children.
    3. An only part is entered. While there are fewer than four, the largest that can be is opened: a chain
       (`nn.Sequential`), a module that holds a chain or a list, one whose only part is such; but no block,
       which is an element of a list, or stands beside others of its class.
    4. Each layer of an `nn.LSTM`, `nn.GRU` or `nn.RNN` is a group (`lstm.layer0`), wherever the RNN stands.
    5. Embeddings (`nn.Embedding` anywhere; by their name only at the input side) make the first group; those
       found on opening a later part join the part before it. Own parameters (a class token) join the part after
       which they are used, the first where that isn't known.
    6. What has no matrix to train (norms, activations, scales) joins the part before it, and so do a pooler
       (which is better taken to the head) and a DenseNet's transition. A downsampling, a norm and one layer
       (ConvNeXt) or a patch merging (Swin), joins the stage after it. What never runs in evaluation (Inception's
       auxiliary head) joins the last.
    7. Convolutions between two poolings make one group (VGG, LeNet), and a chain of them is always opened; not
       across an upsampling, nor with transposed ones (a decoder).
    8. The few architectures that these rules misread stand in a table, `strategies.joins.JOINS`.

    A module that stands in several places belongs to the first. Every parameter is in exactly one group.

    Raises `ValueError` for a backbone without parameters or with lazy ones that have no shape yet, a pattern that
    matches nothing, a parameter that no pattern matches, or one parameter shared by two groups.
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
    home = {name: index for index, (_, held) in enumerate(parts) for name in held}
    owner = {name: index for name in named if (index := _home(name, home)) is not None}
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
        for (name, _), owned, modules in zip(parts, members, _modules(backbone, owner, home), strict=True)
        if owned  # a module that stands here too is in the group where it stands first
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


def _modules(backbone: nn.Module, owner: Mapping[str, int], home: Mapping[str, int]) -> list[list[nn.Module]]:
    """By group, every module with a part in it.

    A container belongs to every group that has a part in it; a leaf without parameters (a pooling, a dropout) to
    the part it stands in, else to that of the leaf registered before it.
    """
    touched: dict[str, set[int]] = {}
    current = 0
    for name, module in backbone.named_modules():
        own = [owner[join(name, n)] for n, _ in _own(module)]
        if own:
            current = own[-1]
        elif next(module.children(), None) is not None:
            continue
        indices = set(own) or {current if (index := _home(name, home)) is None else index}
        for prefix in prefixes(name):
            touched.setdefault(prefix, set()).update(indices)
    modules: list[list[nn.Module]] = [[] for _ in range(max(home.values()) + 1)]
    for name, module in backbone.named_modules():
        for index in touched.get(name, ()):
            modules[index].append(module)
    return modules


def _own(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return list(module.named_parameters(recurse=False))


def _home(name: str, home: Mapping[str, int]) -> int | None:
    return next((home[prefix] for prefix in prefixes(name) if prefix in home), None)
