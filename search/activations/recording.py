"""Calls of a backbone's modules in one pass, and the places to cut it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import wraps
from itertools import count
from math import inf
from typing import Any

import torch
from torch import nn

from search.activations import rnn_layers
from search.activations.slots import Layout, Slot, Tree, first_tensor, full_length, mapped
from search.data.examples import Tensors, index_inputs
from strategies import LayerGroup

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
RANDOM = (*DROPOUTS, nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)


class GroupIndex:
    """Layer groups of every module."""

    def __init__(self, groups: Sequence[LayerGroup]) -> None:
        self._parameters = {parameter: index for index, group in enumerate(groups) for parameter in group.parameters}
        self._modules: dict[nn.Module, set[int]] = {}
        for index, group in enumerate(groups):
            for module in group.modules:
                self._modules.setdefault(module, set()).add(index)

    def of(self, module: nn.Module) -> frozenset[int]:
        """Return the indices of a module's groups.

        A module without parameters has some if training and evaluation differ.
        """
        held = frozenset(self._parameters[parameter] for parameter in module.parameters())
        if held or all(map(_is_constant, module.modules())):
            return held
        return frozenset(index for inner in module.modules() for index in self._modules.get(inner, ()))


def _is_constant(module: nn.Module) -> bool:
    native = type(module).__module__.startswith("torch.nn.modules.") and not isinstance(module, RANDOM)
    return native and next(module.buffers(recurse=False), None) is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A module's call in a pass through the backbone.

    owns: the module has parameters.
    parent: index of the call that it was made in; -1 for the backbone's own.
    began, ended: ticks of one clock.
    result: its tree of slots; None where a tensor in it is not of each example.
    """

    name: str
    groups: frozenset[int]
    owns: bool
    parent: int
    began: int
    ended: float
    result: Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The end of a call as a boundary, with the stored part of its result.

    results: by module, the result of each of its calls up to there; None for a call that runs.
    unmade: indices of the calls that are not made, because the module that makes them is replaced.
    """

    call: Call
    kept: Mapping[int, Slot]
    results: Mapping[str, tuple[Tree, ...]]
    unmade: frozenset[int]

    @property
    def name(self) -> str:
        """The values' module, and which of its results they are."""
        return f"{self.call.name} {[*self.kept]}"

    def layouts(self, length: int) -> tuple[Layout, ...]:
        """Return the layouts of one example's values, where series are padded to that length."""
        return tuple(slot.layout(length) for slot in self.kept.values())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """The calls of a pass through a backbone, in the order in which they began.

    Holds none of its tensors.

    inputs: its inputs as a tree of slots.
    length: that to which they are padded.
    """

    calls: tuple[Call, ...]
    inputs: Tree
    length: int

    @classmethod
    def of(cls, backbone: nn.Module, groups: Sequence[LayerGroup], examples: Tensors) -> "Recording":
        """Record a backbone, which must be in `eval()`. Raises whatever its `forward` raises."""
        rows = len(next(iter(examples.values()))) if isinstance(examples, dict) else len(examples)
        twice = index_inputs(examples, torch.arange(rows).repeat(2))
        index, length = GroupIndex(groups), full_length(examples)
        once, doubled = (_recorded(backbone, index, inputs, length=length) for inputs in (examples, twice))
        if [call.name for call in once] != [call.name for call in doubled]:
            raise RuntimeError("its modules run in another order for other examples")

        def settled(tree: Tree, other: Tree) -> Tree:
            slots: list[Slot] = []
            with suppress(TypeError, ValueError):
                mapped(other, slots.append)
                rest = iter(slots)
                found = mapped(tree, lambda slot: slot.settled(next(rest), examples=rows))
                return found if slots else None
            return None

        def slots_of(inputs: Tensors) -> Tree:
            return mapped(inputs, lambda tensor: Slot.seen(tensor, None, length=0))

        calls = tuple(
            replace(one, result=settled(one.result, two.result)) for one, two in zip(once, doubled, strict=True)
        )
        return cls(calls=calls, inputs=settled(slots_of(examples), slots_of(twice)), length=length)

    def cuts(self, boundary: int) -> list[Cut]:
        """Return where the backbone may be cut at a boundary, the fewest bytes first.

        The values are from the last module of the groups before it, or from one without parameters that runs next.
        """
        possible = [call for call in self.calls if call.result is not None and max(call.groups, default=-1) < boundary]
        early = [call for call in possible if call.owns]
        if not any(boundary - 1 in call.groups for call in early):
            return []
        last = max(early, key=lambda call: call.ended)
        late = [call.began for call in self.calls if call.owns and min(call.groups) >= boundary]
        end = min((began for began in late if began > last.ended), default=inf)
        places = [last, *(call for call in possible if call.began > last.ended and call.ended < end)]
        found = [cut for place in places for cut in self._cuts_behind(place, boundary)]
        return sorted(found, key=lambda cut: (sum(one.nbytes for one in cut.layouts(self.length)), -cut.call.ended))

    def _cuts_behind(self, place: Call, boundary: int) -> Iterator[Cut]:
        replaced, unmade = set[int](), set[int]()
        results: dict[str, list[Tree]] = {}
        for index, call in enumerate(self.calls):
            if call.parent in replaced | unmade:
                unmade.add(index)
            elif call.ended <= place.ended:
                is_replaced = call.result is not None and max(call.groups, default=-1) < boundary
                results.setdefault(call.name, []).append(call.result if is_replaced else None)
                if is_replaced:
                    replaced.add(index)
        slots: list[Slot] = []
        mapped(place.result, slots.append)
        several = [tuple(range(len(slots)))] if len(slots) > 1 else []
        for kept in [*((one,) for one in range(len(slots))), *several]:
            marked = _marked(place.result, kept)
            trees = results | {place.name: [*results[place.name][:-1], marked]}
            yield Cut(
                call=place,
                kept={one: slots[one] for one in kept},
                results={name: tuple(made) for name, made in trees.items() if any(one is not None for one in made)},
                unmade=frozenset(unmade),
            )


def _marked(tree: Tree, kept: tuple[int, ...]) -> Tree:
    """Return a result whose slots of those indices take stored values, in that order."""
    index = count()
    return mapped(tree, lambda slot: replace(slot, value=kept.index(at) if (at := next(index)) in kept else None))


@contextmanager
def in_place_of(part: Any, forward: Callable[..., Any]) -> Iterator[None]:
    own = vars(part)
    before = own.get("forward")  # other libraries put theirs there too
    own["forward"] = forward
    try:
        yield
    finally:
        del own["forward"]
        if before is not None:
            own["forward"] = before


def _recorded(backbone: nn.Module, index: GroupIndex, inputs: Tensors, *, length: int) -> list[Call]:
    calls: list[Call] = []
    made_in, clock = [-1], count()

    def recording(name: str, part: Any, forward: Callable[..., Any]) -> Callable[..., Any]:
        module = part.alone if isinstance(part, rnn_layers.Layer) else part
        groups, owns = index.of(module), next(module.parameters(), None) is not None

        @wraps(forward)
        def record(*args: Any, **kwargs: Any) -> Any:
            own, given = len(calls), first_tensor(args, kwargs)
            call = Call(
                name=name, groups=groups, owns=owns, parent=made_in[-1], began=next(clock), ended=inf, result=None
            )
            calls.append(call)
            made_in.append(own)
            try:
                result = forward(*args, **kwargs)
            finally:
                made_in.pop()
            tree = None
            with suppress(TypeError):
                tree = mapped(result, lambda found: Slot.seen(found, given, length=length))
            calls[own] = replace(call, ended=next(clock), result=tree)
            return result

        return record

    with ExitStack() as stack, torch.no_grad():
        several = [name for name, module in backbone.named_modules() if len(index.of(module)) > 1]
        split, layers = rnn_layers.split_rnns(backbone, {f"{name}.layer0" for name in several})
        for rnn, whole in split:
            stack.enter_context(in_place_of(rnn, whole))
        for name, part in (dict(backbone.named_modules()) | layers).items():
            stack.enter_context(in_place_of(part, recording(name, part, part.forward)))
        backbone(inputs)
    return calls
