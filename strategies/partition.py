"""The parts of an architecture, in the order in which they run."""

import re
from dataclasses import dataclass, field

from torch import nn

from strategies.forward_order import forward_order
from strategies.layer_kinds import (
    exceptional_joins,
    is_convolution,
    is_downsampling,
    is_embedding,
    is_lookup_table,
    is_pooling,
    is_sequential,
    is_upsampling,
    joins_before,
)
from strategies.module_names import join, outermost_module, relative_name, unique_suffixes

MIN_PARTS = 4
"""Parts are opened, the largest first, until there are this many."""

_ATOMS = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_RNN_LAYER = re.compile(r"_l(\d+)(?:_reverse)?(?![^._])")


@dataclass(slots=True, kw_only=True)
class _Part:
    """A stretch of the network: full names of modules (with all inside) and of parameters.

    core: the name of the module that the part is called after.
    tail: what its own name adds to that: ".layer0" of an RNN.
    module: the core itself, if it may be opened.
    block: True for one of several of its class, or of a list.
    """

    core: str
    names: list[str]
    tail: str = ""
    module: nn.Module | None = None
    block: bool = False


@dataclass(slots=True, kw_only=True)
class _Opened:
    """A module's parts in order.

    lead: names of what runs before the first part: embeddings, own parameters, a norm of the input.
    embeddings: the embeddings of `lead`, by full name.
    pooled: True if the module pools between convolutions.
    """

    parts: list[_Part] = field(default_factory=list)
    lead: list[str] = field(default_factory=list)
    embeddings: dict[str, nn.Module] = field(default_factory=dict)
    pooled: bool = False


def partition(backbone: nn.Module) -> list[tuple[str, list[str]]]:
    """Return the backbone's parts, input side first, by the rules of `layer_groups`.

    A part is its name and the full names of its modules and parameters.
    """
    parts = [_Part(core="", names=[""], module=backbone)]
    while (opening := _next_to_open(parts)) is not None:
        _replace(parts, *opening)
    _join_exceptions(parts, backbone)
    names = unique_suffixes({part.core for part in parts})
    return [((names[part.core] + part.tail).lstrip(".") or type(backbone).__name__, part.names) for part in parts]


def _next_to_open(parts: list[_Part]) -> tuple[int, _Opened] | None:
    """Return the index of the part to open now, and its inner parts.

    An only part is opened, and the largest while there are few. Stacked RNNs and an `nn.Sequential` that pools between
    convolutions are always opened.
    """
    modules = [(index, part.module) for index, part in enumerate(parts) if part.module is not None]
    for index, module in sorted(modules, key=lambda entry: -sum(p.numel() for p in entry[1].parameters())):
        stacked = any(isinstance(m, nn.RNNBase) and m.num_layers > 1 for m in module.modules())
        if stacked or len(parts) < MIN_PARTS or is_sequential(module):
            opened = _open(parts[index], any_class=stacked or len(parts) == 1)
            if opened is not None and (stacked or len(parts) < MIN_PARTS or opened.pooled):
                return index, opened
    return None


def _replace(parts: list[_Part], index: int, opened: _Opened) -> None:
    part, inner = parts[index], opened.parts
    at = part.names.index(part.core)
    inner[0].names[:0] = part.names[:at]
    inner[-1].names += part.names[at + 1 :]
    if index > 0:
        parts[index - 1].names += opened.lead
    elif opened.embeddings:
        first, module = next(iter(opened.embeddings.items()))
        only = module if len(opened.embeddings) == 1 and not any(map(is_lookup_table, module.modules())) else None
        inner.insert(0, _Part(core=first, names=opened.lead, module=only))
    else:
        inner[0].names[:0] = opened.lead
    parts[index : index + 1] = inner


def _open(part: _Part, *, any_class: bool = False) -> _Opened | None:
    """Return a part's inner parts; None for a layer and, without `any_class`, for a block."""
    if part.module is None:
        return None
    opened = _split(part.core, part.module)
    parts = opened.parts
    if not parts:
        return None
    if any_class:
        return opened
    if len(parts) == 1:
        inner = _open(parts[0])
        if inner is None:
            return opened if opened.embeddings else None
        _replace(parts, 0, _Opened(parts=inner.parts))
        embeddings = opened.embeddings | inner.embeddings
        return _Opened(parts=parts, lead=opened.lead + inner.lead, embeddings=embeddings, pooled=inner.pooled)
    holds_more = any(
        p.module is None
        or "." in relative_name(p.core, part.core)
        or (is_sequential(p.module) and _open(p) is not None)
        for p in parts
    )
    return opened if is_sequential(part.module) or (holds_more and not part.block) else None


def _split(name: str, module: nn.Module) -> _Opened:
    """Return a module's parts one level down."""
    if isinstance(module, _ATOMS):
        return _Opened()
    if isinstance(module, nn.RNNBase):
        return _Opened(parts=_rnn_layers(name, module))
    if hasattr(module, "group_matcher") and (groups := _timm_groups(name, module)):
        return _Opened(parts=groups)
    opened, poolings, upsamplings, late = _Opened(), set[int](), set[int](), list[str]()
    parts = opened.parts
    order, unused = forward_order(module)
    classes = [type(child) for _, child in order]
    for step, child in order:
        full = join(name, step)
        if is_pooling(child):
            poolings.add(len(parts))
        elif is_upsampling(child):
            upsamplings.add(len(parts))
        if not step:
            continue
        if is_embedding(child, name=step, at_input=not parts):
            opened.lead.append(full)
            opened.embeddings[full] = child
        elif not isinstance(child, nn.Module) or joins_before(child, name=step):
            (parts[-1].names if parts else opened.lead).append(full)
        elif step in unused:
            late.append(full)
        elif isinstance(child, nn.RNNBase):
            parts += _rnn_layers(full, child)
        else:
            block = "." in step or classes.count(type(child)) > 1
            parts.append(_Part(core=full, names=[full], module=child, block=block))
    if not parts:
        _enter_embeddings(opened)
    opened.pooled = _merge_convolutions(parts, poolings, upsamplings)
    _join_ahead(parts)
    (parts[-1].names if parts else opened.lead).extend(late)
    return opened


def _enter_embeddings(opened: _Opened) -> None:
    """Make modules that are only called embeddings parts: nothing else is the network."""
    for name, module in list(opened.embeddings.items()):
        if not is_lookup_table(module):
            opened.parts.append(_Part(core=name, names=[name], module=module))
            opened.lead.remove(name)
            del opened.embeddings[name]


def _rnn_layers(name: str, rnn: nn.RNNBase) -> list[_Part]:
    """Return a part for each layer of a stacked RNN, by names such as `bias_hh_l0_reverse`."""
    if rnn.num_layers == 1:
        return [_Part(core=name, names=[name])]
    parts = [_Part(core=name, names=[], tail=f".layer{layer}") for layer in range(rnn.num_layers)]
    for parameter, _ in rnn.named_parameters():
        match = _RNN_LAYER.search(parameter)
        parts[int(match[1]) if match else 0].names.append(join(name, parameter))
    return parts


def _timm_groups(name: str, module: nn.Module) -> list[_Part]:
    """Return the groups that a timm model names itself; unmatched parameters join the last."""
    try:
        from timm.models._manipulate import group_with_matcher

        matcher = module.group_matcher(coarse=True)  # type: ignore[operator]
    except (ImportError, AssertionError):  # somebody else's method; RDNet, which has no coarse groups
        return []
    # A name that matches no pattern marks the group of the unmatched.
    unmatched = "\0"
    names = [*(n for n, _ in module.named_parameters()), unmatched]
    groups = list(group_with_matcher(((n, n) for n in names), matcher).values())
    rest = next(group for group in groups if unmatched in group)
    groups.remove(rest)
    others = [[n for other in groups if other is not group for n in other] for group in groups]
    cores = [outermost_module(group, outside=outside) for group, outside in zip(groups, others, strict=True)]
    if groups:
        groups[-1] += [n for n in rest if n != unmatched]
    return [
        _Part(core=join(name, core), names=[join(name, n) for n in group])
        for core, group in zip(cores, groups, strict=True)
    ]


def _merge_convolutions(parts: list[_Part], poolings: set[int], upsamplings: set[int]) -> bool:
    """Merge convolutions between two poolings (a block of a VGG); return whether there are any."""
    single = [is_convolution(part.module) for part in parts]
    if not any(any(single[:at]) and any(single[at:]) for at in poolings):
        return False
    for at in reversed(range(1, len(parts))):
        if at not in poolings | upsamplings and single[at - 1] and single[at]:
            parts[at - 1].names += parts[at].names
            parts[at - 1].module = None
            del parts[at]
    return True


def _join_ahead(parts: list[_Part]) -> None:
    """Join each downsampling to the stage after it."""
    for at in reversed(range(1, len(parts) - 1)):
        if is_downsampling(parts[at].module) and not is_downsampling(parts[at + 1].module):
            parts[at + 1].names[:0] = parts[at].names
            del parts[at]


def _join_exceptions(parts: list[_Part], backbone: nn.Module) -> None:
    for name, module in backbone.named_modules():
        for child, target in exceptional_joins(module):
            child, target = join(name, child), join(name, target)
            source = next((part for part in parts if child in part.names), None)
            into = next((part for part in parts if target in part.names), None)
            if source is not None and into is not None and source is not into:
                moved = source.names if source.core == child else [child]
                into.names += moved
                source.names = [n for n in source.names if n not in moved]
    parts[:] = [part for part in parts if part.names]
