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
from search.activations.slots import Layout, Slot, Tree, first_tensor, full_length, leaves, mapped
from search.data.examples import Tensors, index_inputs, tensors_of
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
    skipped: indices of the calls that are not made, because the module that makes them is replaced.
    """

    call: Call
    kept: Mapping[int, Slot]
    results: Mapping[str, tuple[Tree, ...]]
    skipped: frozenset[int]

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
        rows = len(tensors_of(examples)[0])
        twice = index_inputs(examples, torch.arange(rows).repeat(2))
        index, length = GroupIndex(groups), full_length(examples)
        once, doubled = (_recorded(backbone, index, inputs, length=length) for inputs in (examples, twice))
        if [call.name for call in once] != [call.name for call in doubled]:
            raise RuntimeError("its modules run in another order for other examples")

        def slots_of(inputs: Tensors) -> Tree:
            return mapped(inputs, lambda tensor: Slot.observed(tensor, None, length=0))

        calls = tuple(
            replace(one, result=_with_example_axis(one.result, two.result, examples=rows))
            for one, two in zip(once, doubled, strict=True)
        )
        slots = _with_example_axis(slots_of(examples), slots_of(twice), examples=rows)
        return cls(calls=calls, inputs=slots, length=length)

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
        replaced, skipped = set[int](), set[int]()
        results: dict[str, list[Tree]] = {}
        for index, call in enumerate(self.calls):
            if call.parent in replaced | skipped:  # a call whose parent is replaced is never made
                skipped.add(index)
            elif call.ended <= place.ended:
                is_replaced = call.result is not None and max(call.groups, default=-1) < boundary
                results.setdefault(call.name, []).append(call.result if is_replaced else None)
                if is_replaced:
                    replaced.add(index)
        slots = leaves(place.result)
        all_slots = [tuple(range(len(slots)))] if len(slots) > 1 else []
        for kept in [*((one,) for one in range(len(slots))), *all_slots]:
            trees = results | {place.name: [*results[place.name][:-1], _with_stored(place.result, kept)]}
            yield Cut(
                call=place,
                kept={one: slots[one] for one in kept},
                results={name: tuple(made) for name, made in trees.items() if any(one is not None for one in made)},
                skipped=frozenset(skipped),
            )


def _with_example_axis(tree: Tree, doubled: Tree, *, examples: int) -> Tree:
    """Return a tree of slots with the axes of their examples.

    Returns None where a slot has none, or where there is no slot. `doubled` is the tree of twice as many examples.
    """
    with suppress(TypeError, ValueError):
        others = leaves(doubled)
        pairs = zip(leaves(tree), others, strict=False)
        slots = iter([slot.with_example_axis(other, examples=examples) for slot, other in pairs])
        return mapped(tree, lambda _: next(slots)) if others else None
    return None


def _with_stored(tree: Tree, kept: tuple[int, ...]) -> Tree:
    """Return a result whose slots of those indices take stored values, in that order."""
    index = count()
    return mapped(tree, lambda slot: replace(slot, value=kept.index(at) if (at := next(index)) in kept else None))


@contextmanager
def in_place_of(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    own = vars(module)
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

    def recording(name: str, module: Any, forward: Callable[..., Any]) -> Callable[..., Any]:
        own = module.alone if isinstance(module, rnn_layers.Layer) else module
        groups, owns = index.of(own), next(own.parameters(), None) is not None

        @wraps(forward)
        def record(*args: Any, **kwargs: Any) -> Any:
            number, given = len(calls), first_tensor(args, kwargs)
            call = Call(
                name=name, groups=groups, owns=owns, parent=made_in[-1], began=next(clock), ended=inf, result=None
            )
            calls.append(call)
            made_in.append(number)
            try:
                result = forward(*args, **kwargs)
            finally:
                made_in.pop()
            tree = None
            with suppress(TypeError):
                tree = mapped(result, lambda found: Slot.observed(found, given, length=length))
            calls[number] = replace(call, ended=next(clock), result=tree)
            return result

        return record

    with ExitStack() as stack, torch.no_grad():
        several = [name for name, module in backbone.named_modules() if len(index.of(module)) > 1]
        split, layers = rnn_layers.split_rnns(backbone, {f"{name}.layer0" for name in several})
        for rnn, whole in split:
            stack.enter_context(in_place_of(rnn, whole))
        for name, module in (dict(backbone.named_modules()) | layers).items():
            stack.enter_context(in_place_of(module, recording(name, module, module.forward)))
        backbone(inputs)
    return calls
