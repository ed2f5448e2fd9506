"""What an architecture is made of: its parts, in the order in which they run."""

import re
from dataclasses import dataclass, field

from torch import nn

from strategies.forward_order import steps
from strategies.joins import joins
from strategies.layer_kinds import (
    is_chain,
    is_convolution,
    is_downsampling,
    is_embedding,
    is_pooling,
    is_table,
    is_upsampling,
    joins_before,
    size,
)
from strategies.module_names import join, leader, short, under

FEWEST = 4
"""Parts are opened, the largest first, until there are this many or nothing is left to open."""

_ATOMS = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_RNN_LAYER = re.compile(r"_l(\d+)(?:_reverse)?(?![^._])")


@dataclass(slots=True, kw_only=True)
class _Part:
    """A stretch of the network: full names of modules (with all that is in them) and of parameters.

    core: the name it is called after. tail: what is said after that, an RNN's ".layer0".
    module: the core itself, where it may be opened. block: one of several of its class, or of a list.
    """

    core: str
    names: list[str]
    tail: str = ""
    module: nn.Module | None = None
    block: bool = False


@dataclass(slots=True, kw_only=True)
class _Opened:
    """A module's parts in order, and what leads into the first: embeddings, own parameters, a norm of the input.

    embeddings: those of `lead` that are embeddings, by full name. pooled: whether it pools between convolutions.
    """

    parts: list[_Part] = field(default_factory=list)
    lead: list[str] = field(default_factory=list)
    embeddings: dict[str, nn.Module] = field(default_factory=dict)
    pooled: bool = False


def partition(backbone: nn.Module) -> list[tuple[str, list[str]]]:
    """The backbone's parts, input side first: a name, and the full names of the modules and parameters in it.

    The rules stand in `layer_groups`.
    """
    parts = [_Part(core="", names=[""], module=backbone)]
    while (step := _next(parts)) is not None:
        _replace(parts, *step)
    _join_by_table(parts, backbone)
    names = short({part.core for part in parts})
    return [((names[part.core] + part.tail).lstrip(".") or type(backbone).__name__, part.names) for part in parts]


def _next(parts: list[_Part]) -> tuple[int, _Opened] | None:
    """The part to open now, and what is in it: an only part, the largest while there are few; always stacked RNNs
    and chains that pool between convolutions."""
    for index, part in sorted(enumerate(parts), key=lambda entry: -size(entry[1].module)):
        if part.module is None:
            continue
        stacked = any(isinstance(m, nn.RNNBase) and m.num_layers > 1 for m in part.module.modules())
        if stacked or len(parts) < FEWEST or is_chain(part.module):
            opened = _open(part, any_class=stacked or len(parts) == 1)
            if opened is not None and (stacked or len(parts) < FEWEST or opened.pooled):
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
        only = module if len(opened.embeddings) == 1 and not any(map(is_table, module.modules())) else None
        inner.insert(0, _Part(core=first, names=opened.lead, module=only))
    else:
        inner[0].names[:0] = opened.lead
    parts[index : index + 1] = inner


def _open(part: _Part, *, any_class: bool = False) -> _Opened | None:
    """What is in a part, or None for a single layer or block; `any_class` opens blocks as well."""
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
    holds_more = any(p.module is None or "." in under(part.core, p.core) or _opens_as_chain(p) for p in parts)
    return opened if is_chain(part.module) or (holds_more and not part.block) else None


def _opens_as_chain(part: _Part) -> bool:
    return part.module is not None and is_chain(part.module) and _open(part) is not None


def _split(name: str, module: nn.Module) -> _Opened:
    """A module's parts one level down."""
    if isinstance(module, _ATOMS):
        return _Opened()
    if isinstance(module, nn.RNNBase):
        return _Opened(parts=_rnn_layers(name, module))
    if hasattr(module, "group_matcher") and (groups := _timm_groups(name, module)):
        return _Opened(parts=groups)
    opened, poolings, upsamplings, late = _Opened(), set[int](), set[int](), list[str]()
    parts = opened.parts
    order, unused = steps(module)
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
    """Where nothing follows it, what is only called an embedding (`embedding_net`) is the network itself."""
    for name, module in list(opened.embeddings.items()):
        if not is_table(module):
            opened.parts.append(_Part(core=name, names=[name], module=module))
            opened.lead.remove(name)
            del opened.embeddings[name]


def _rnn_layers(name: str, rnn: nn.RNNBase) -> list[_Part]:
    """One part for each layer of a stacked RNN, by its parameters' names: `weight_ih_l0`, `bias_hh_l0_reverse`.

    A layer has four, two without biases, one more (`weight_hr`) with a projection; twice that when bidirectional.
    """
    if rnn.num_layers == 1:
        return [_Part(core=name, names=[name])]
    parts = [_Part(core=name, names=[], tail=f".layer{layer}") for layer in range(rnn.num_layers)]
    for parameter, _ in rnn.named_parameters():
        match = _RNN_LAYER.search(parameter)
        parts[int(match[1]) if match else 0].names.append(join(name, parameter))
    return parts


def _timm_groups(name: str, module: nn.Module) -> list[_Part]:
    """The groups that a timm model names itself; what it leaves unmatched (a neck, a last norm) joins the last."""
    try:
        from timm.models._manipulate import group_with_matcher

        matcher = module.group_matcher(coarse=True)  # type: ignore[operator]
    except (ImportError, AssertionError):  # somebody else's method; RDNet, which has no coarse groups
        return []
    # A name that no pattern matches shows which group the unmatched ones are in.
    unmatched = "\0"
    names = [*(n for n, _ in module.named_parameters()), unmatched]
    groups = list(group_with_matcher(((n, n) for n in names), matcher).values())
    rest = next(group for group in groups if unmatched in group)
    groups.remove(rest)
    cores = [leader(group, [n for other in groups if other is not group for n in other]) for group in groups]
    if groups:
        groups[-1] += [n for n in rest if n != unmatched]
    return [
        _Part(core=join(name, core), names=[join(name, n) for n in group])
        for core, group in zip(cores, groups, strict=True)
    ]


def _merge_convolutions(parts: list[_Part], poolings: set[int], upsamplings: set[int]) -> bool:
    """Convolutions between two poolings make one part: a block of a VGG. Says whether there are such."""
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
    """A downsampling joins the stage after it."""
    for at in reversed(range(1, len(parts) - 1)):
        if is_downsampling(parts[at].module) and not is_downsampling(parts[at + 1].module):
            parts[at + 1].names[:0] = parts[at].names
            del parts[at]


def _join_by_table(parts: list[_Part], backbone: nn.Module) -> None:
    for name, module in backbone.named_modules():
        for child, target in joins(module):
            child, target = join(name, child), join(name, target)
            source = next((part for part in parts if child in part.names), None)
            into = next((part for part in parts if target in part.names), None)
            if source is not None and into is not None and source is not into:
                moved = source.names if source.core == child else [child]
                into.names += moved
                source.names = [n for n in source.names if n not in moved]
    parts[:] = [part for part in parts if part.names]
