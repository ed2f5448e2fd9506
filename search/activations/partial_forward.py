"""A backbone's own `forward`, run with the modules before a boundary replaced by placeholders."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Self

from torch import nn

from search.activations.recording import Cut, Recording, in_place_of
from search.activations.rnn_layers import split_rnns
from search.activations.slots import Filling, Slot, Tree, Values, first_tensor, full_length, leaves, mapped
from search.data.examples import Tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """A cut to start from, its values (N, ...), and the content of placeholders."""

    cut: Cut
    values: Values
    filling: Filling

    def copy(self) -> Self:
        """Return it with values of its own, for code that writes into them."""
        return replace(self, values=tuple(value.clone() for value in self.values))


class PartialForward:
    """A backbone that runs from one cut to another."""

    def __init__(self, recording: Recording, backbone: nn.Module) -> None:
        self.recording = recording
        self.backbone = backbone
        names = {call.name for call in recording.calls}
        self._split, layers = split_rnns(backbone, names)
        self._modules = dict(backbone.named_modules()) | layers

    def __call__(self, inputs: Tensors | None, *, resume: Resume | None, stop: Cut | None) -> Values:
        """Return the values at `stop`, or the features; placeholders replace inputs that are None."""
        with ExitStack() as stack:
            for rnn, layers in self._split:
                stack.enter_context(in_place_of(rnn, layers))
            if resume is not None:
                rows, device = len(resume.values[0]), resume.values[0].device
                for name, results in resume.cut.results.items():
                    module = self._modules[name]
                    stack.enter_context(in_place_of(module, _Replaced(module.forward, results, resume)))
                if inputs is None:
                    inputs = mapped(
                        self.recording.inputs, lambda slot: slot.placeholder(rows, None, resume.filling, device)
                    )
            if stop is None:
                return (self.backbone(inputs),)
            module = self._modules[stop.call.name]
            stack.enter_context(in_place_of(module, _Stop(module.forward, self._calls_before(stop, resume))))
            length = full_length(inputs)
            try:
                self.backbone(inputs)
            except _Reached as reached:
                found = leaves(reached.result)
                return tuple(slot.stored(found[index], length) for index, slot in stop.kept.items())
        raise RuntimeError(f"The backbone has not called {stop.call.name!r} as often as before.")

    def _calls_before(self, stop: Cut, resume: Resume | None) -> int:
        skipped = resume.cut.skipped if resume is not None else frozenset[int]()
        made = (call for index, call in enumerate(self.recording.calls) if index not in skipped)
        return sum(call.name == stop.call.name and call.began <= stop.call.began for call in made)


class _Reached(BaseException):
    """The end of a pass. Not an `Exception`: libraries catch those around their layers."""

    def __init__(self, result: Any) -> None:
        self.result = result


@dataclass(slots=True)
class _Stop:
    """A module's `forward` that ends the whole pass at a call."""

    forward: Callable[..., Any]
    calls_left: int

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self.forward(*args, **kwargs)
        self.calls_left -= 1
        if self.calls_left == 0:
            raise _Reached(result)
        return result


class _Replaced:
    """A module's `forward` that returns stored values and placeholders in its first calls."""

    def __init__(self, forward: Callable[..., Any], results: Sequence[Tree], resume: Resume) -> None:
        self.forward = forward
        self.results = iter(results)
        self.resume = resume

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if (result := next(self.results, None)) is None:
            return self.forward(*args, **kwargs)
        given, values, filling = first_tensor(args, kwargs), self.resume.values, self.resume.filling

        def made(slot: Slot) -> Any:
            if slot.value is not None:
                return slot.restored(values[slot.value], given)
            return slot.placeholder(len(values[0]), given, filling, values[0].device)

        return mapped(result, made)
