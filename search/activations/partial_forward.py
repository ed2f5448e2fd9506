"""A backbone whose code can't be followed: its own `forward` runs, and what lies before a boundary is skipped.

Each module wholly before the boundary returns, instead of running, the value that the last of them gave.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from search.activations import rnn_layers
from search.data.examples import Tensors, index_inputs
from strategies import LayerGroup
from strategies.module_names import prefixes

_RANDOM = (nn.modules.dropout._DropoutNd, nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)


class Homes:
    """Which layer groups a module or parameter belongs to."""

    def __init__(self, groups: Sequence[LayerGroup]) -> None:
        self._parameters = {parameter: index for index, group in enumerate(groups) for parameter in group.parameters}
        self._modules: dict[nn.Module, set[int]] = {}
        for index, group in enumerate(groups):
            for module in group.modules:
                self._modules.setdefault(module, set()).add(index)

    def of(self, part: object) -> set[int]:
        """The indices of its groups. Without parameters, a module is at home where its mode changes what it does."""
        if isinstance(part, nn.Parameter):
            return {self._parameters[part]}
        if isinstance(part, rnn_layers.Layer):
            return self.of(part.alone)
        if not isinstance(part, nn.Module):
            return set()
        held = {self._parameters[parameter] for parameter in part.parameters()}
        if held or all(map(_is_constant, part.modules())):
            return held
        return {index for module in part.modules() for index in self._modules.get(module, ())}

    def are_several(self, module: nn.Module) -> bool:
        return len(self.of(module)) > 1


def _is_constant(module: nn.Module) -> bool:
    # One of torch's that does the same in training and in evaluation.
    native = type(module).__module__.startswith("torch.nn.modules.") and not isinstance(module, _RANDOM)
    return native and next(module.buffers(recurse=False), None) is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """What is skipped at a boundary.

    modules: each with what it returns behind the value; None where it returns that alone.
    last, times: the value is there when that module has run so often.
    padded: whether it is a sequence (N, T, ...), kept at the full length of the inputs.
    """

    modules: Mapping[str, tuple[None, ...] | None]
    last: str
    times: int
    padded: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Skipped:
    """What a backbone skips, by boundary. Holds names, none of its tensors."""

    cuts: Mapping[int, Skip]

    @classmethod
    def of(cls, backbone: nn.Module, groups: Sequence[LayerGroup], examples: Tensors) -> "Skipped":
        """ProgressPoller a backbone run in evaluation. Raises whatever its `forward` raises on one example."""
        calls = _calls(backbone.eval(), Homes(groups), examples)
        skips = {boundary: _skip(calls, boundary) for boundary in range(1, len(groups))}
        return cls(cuts={boundary: skip for boundary, skip in skips.items() if skip})

    @property
    def is_one_program(self) -> bool:
        return False

    def needs_inputs(self, boundary: int) -> bool:
        return True

    def on(self, backbone: nn.Module) -> "Skipping":
        return Skipping(self, backbone)


class Skipping:
    """A backbone, run from one boundary to another: 0 is its inputs, None its features."""

    def __init__(self, skipped: Skipped, backbone: nn.Module) -> None:
        self.skipped = skipped
        self.backbone = backbone

    def __call__(
        self, start: int, values: tuple[Tensor, ...], inputs: Tensors | None, stop: int | None
    ) -> tuple[Tensor, ...]:
        with ExitStack() as stack:
            if start:
                skip = self.skipped.cuts[start]
                for name, rest in skip.modules.items():
                    stub = _Stub(value=values[0], rest=rest, padded=skip.padded)
                    stack.enter_context(_in_place_of(self.backbone.get_submodule(name), stub))
            if stop is None:
                return (self.backbone(inputs),)
            skip = self.skipped.cuts[stop]
            hook = self.backbone.get_submodule(skip.last).register_forward_hook(_Stop(skip.times))
            stack.callback(hook.remove)
            try:
                self.backbone(inputs)
            except _Reached as reached:
                value = reached.value
                return (_lengthened(value, _full_length(inputs)) if skip.padded else value,)
        raise RuntimeError(f"The backbone has not run {skip.last!r} as often as before.")


class _Reached(BaseException):
    """The value at a boundary is there. Not an `Exception`: libraries catch those around their layers."""

    def __init__(self, value: Tensor) -> None:
        self.value = value


class _Stop:
    """A forward hook that ends the whole `forward` when its module has run for the last time before a boundary."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise _Reached(output if isinstance(output, Tensor) else output[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stub:
    """A module's `forward` that only returns a value; a sequence is cut to the length of what comes in."""

    value: Tensor
    rest: tuple[None, ...] | None
    padded: bool

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = _first_tensor(args, kwargs)
        value = self.value[:, : given.size(1)] if self.padded and given is not None else self.value
        return value if self.rest is None else (value, *self.rest)


@contextmanager
def _in_place_of(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    own = vars(module)
    before = own.get("forward")  # other libraries put theirs there too
    own["forward"] = forward
    try:
        yield
    finally:
        del own["forward"]
        if before is not None:
            own["forward"] = before


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One call of a module, and the one tensor that it returned, behind which stands nothing but `rest`."""

    name: str
    homes: set[int]
    shape: torch.Size
    rest: tuple[None, ...] | None
    padded: bool


def _calls(backbone: nn.Module, homes: Homes, examples: Tensors) -> list[_Call]:
    """The calls that make one value of each example, in the order in which they end."""
    several, one = (
        _watched(backbone, homes, inputs) for inputs in (examples, index_inputs(examples, torch.tensor([0])))
    )
    return [call for call, alone in zip(several, one, strict=True) if alone.shape[:1] == (1,) != call.shape[:1]]


def _watched(backbone: nn.Module, homes: Homes, inputs: Tensors) -> list[_Call]:
    calls: list[_Call] = []

    def note(name: str, held: set[int], args: Any, kwargs: Any, output: Any) -> None:
        value, *rest = output if isinstance(output, tuple) and output else (output,)
        if not isinstance(value, Tensor) or any(part is not None for part in rest):
            return
        given, shape = _first_tensor(args, kwargs), value.shape
        padded = isinstance(inputs, dict) and len(shape) > 2 and shape[1] <= _full_length(inputs)
        padded = padded and given is not None and given.shape[1:2] == shape[1:2]
        behind = tuple(rest) if isinstance(output, tuple) else None
        calls.append(_Call(name=name, homes=held, shape=shape, rest=behind, padded=padded))

    with ExitStack() as stack, torch.no_grad():
        for name, module in backbone.named_modules():
            held = homes.of(module)
            hook = module.register_forward_hook(
                lambda _, args, kwargs, output, name=name, held=held: note(name, held, args, kwargs, output),
                with_kwargs=True,
            )
            stack.callback(hook.remove)
        backbone(inputs)
    return calls


def _skip(calls: Sequence[_Call], boundary: int) -> Skip | None:
    early = [call for call in calls if call.homes and max(call.homes) < boundary]
    names = {call.name for call in early}
    outer = [call for call in early if names.isdisjoint(prefixes(call.name)[1:])]
    if not any(boundary - 1 in call.homes for call in outer):
        return None
    return Skip(
        modules={call.name: call.rest for call in outer},
        last=outer[-1].name,
        times=Counter(call.name for call in outer)[outer[-1].name],
        padded=outer[-1].padded,
    )


def _first_tensor(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    return next((given for given in (*args, *kwargs.values()) if isinstance(given, Tensor)), None)


def _full_length(inputs: Any) -> int:
    return max((value.size(1) for value in inputs.values() if value.ndim > 1), default=0)


def _lengthened(value: Tensor, length: int) -> Tensor:
    return pad(value, (0, 0) * (value.ndim - 2) + (0, length - value.size(1)))
