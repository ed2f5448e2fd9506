"""A backbone cut between its layer groups: what frozen groups make of an example, and going on from there."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from search.activations.partial_forward import Skipped
from search.activations.programs import Traced
from search.data.examples import Tensors, index_inputs
from search.user_code import one_line
from strategies import LayerGroup
from strategies.freeze import set_trainable

ROUNDING = 1e-4
"""Features that differ by more, in shares of the largest, are other features."""


class PartialInputs(NamedTuple):
    """What a backbone goes on from at a boundary.

    values: all that is live there, each (N, ...). inputs: the backbone's own, where going on needs them too.
    """

    boundary: int
    values: tuple[Tensor, ...]
    inputs: Tensors | None


Values = tuple[Tensor, ...]


class Run(Protocol):
    """A backbone, run from one boundary to another: 0 is its inputs, None its features."""

    def __call__(
        self, start: int, values: tuple[Tensor, ...], inputs: Tensors | None, stop: int | None, /
    ) -> tuple[Tensor, ...]: ...


class Way(Protocol):
    """A way to cut a backbone at boundaries inside; a value, which is bound to one copy or another."""

    @property
    def cuts(self) -> Mapping[int, object]: ...

    @property
    def is_one_program(self) -> bool:
        """Whether what runs between modules is the same in training and in evaluation, and known."""

    def needs_inputs(self, boundary: int) -> bool: ...

    def on(self, backbone: nn.Module) -> Run: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Boundaries:
    """Where a backbone of G layer groups can be cut: boundary p lies behind p of them, boundary G are its features.

    boundaries: ascending, the last is G; none where even the features are no function of each example alone.
    reason: why there are none inside, one clause; "" where there are some. Holds names, none of the backbone's tensors,
    so that it fits each copy.
    """

    boundaries: tuple[int, ...]
    reason: str
    found: Mapping[int, "Found"]
    way: Way | None

    @classmethod
    def of(cls, backbone: nn.Module, groups: Sequence[LayerGroup], examples: Tensors) -> "Boundaries":
        """Find the cuts of a backbone, which stays as it is, and try each on some examples, two or more.

        A boundary counts if going on from there gives what the whole backbone gives: in evaluation, from values that
        were computed one example at a time; and in training, with the groups before it frozen. Most code is followed
        on the symbols of `torch.fx`; where it can't be, modules are skipped while the code itself runs.
        """
        with _aside(examples):
            copy, copied, reason = backbone, list(groups), "it has one layer group"
            ways: tuple[type[Traced] | type[Skipped], ...] = (Traced, Skipped) if len(groups) > 1 else ()
            try:
                copy, copied = deepcopy((backbone, copied))
            except Exception as error:  # tensors that are made of parameters, as by `weight_norm`, can't be copied
                ways, reason = (), f"it can't be copied ({one_line(error)})"
            whole = _evaluated(copy, examples)
            features = {len(groups): Found(layouts=_layouts((whole,)), writes=False)}
            if not _is_of_each(copy, examples, whole):
                reason = "what it makes of an example depends on the others, or on chance"
                return cls(boundaries=(), reason=reason, found={}, way=None)
            for kind in ways:
                try:
                    way = kind.of(copy, copied, examples)
                except Exception as error:  # other people's code on symbols may raise anything
                    reason = f"its code can't be followed ({one_line(error)})"
                    continue
                if found := _tried(way, copy, copied, examples, whole):
                    return cls(boundaries=(*found, len(groups)), reason="", found=found | features, way=way)
                reason = "its layer groups do not run one after another, each example for itself"
            return cls(boundaries=(len(groups),), reason=reason, found=features, way=None)

    def needs_inputs(self, boundary: int) -> bool:
        """Whether going on from there takes the backbone's own inputs too."""
        return self.way is not None and boundary in self.way.cuts and self.way.needs_inputs(boundary)

    def shapes(self, boundary: int) -> tuple[tuple[int, ...], ...]:
        """Of one example's values, in the order of `PartialInputs.values`."""
        return tuple(layout.shape for layout in self.found[boundary].layouts)

    def dtypes(self, boundary: int) -> tuple[torch.dtype, ...]:
        return tuple(layout.dtype for layout in self.found[boundary].layouts)

    def on(self, backbone: nn.Module) -> "PartialBackbone":
        """Bind to a copy of the backbone: some milliseconds at most."""
        return PartialBackbone(self, backbone)


class PartialBackbone:
    """A backbone that runs in parts. Its modules run in the mode they are in; frozen ones belong in `eval()`."""

    def __init__(self, cuts: Boundaries, backbone: nn.Module) -> None:
        self.cuts = cuts
        self.backbone = backbone
        self._run = cuts.way.on(backbone) if cuts.way is not None else None

    def until(self, inputs: Tensors | PartialInputs, boundary: int) -> tuple[Tensor, ...]:
        """What is live at a boundary, each (N, ...), from inputs or from an earlier boundary; without gradients.

        Raises `ValueError` for what is no boundary of the cuts.
        """
        with torch.no_grad():
            return _copied(self._go(inputs, boundary))

    def onward(self, resumed: PartialInputs) -> Tensor:
        """The features (N, F), from a boundary."""
        return self._go(resumed, self.cuts.boundaries[-1])[0]

    def _go(self, inputs: Tensors | PartialInputs, boundary: int) -> tuple[Tensor, ...]:
        if boundary not in self.cuts.boundaries:
            allowed = ", ".join(map(str, self.cuts.boundaries))
            raise ValueError(f"The backbone can't be cut at {boundary}, only at {allowed}.")
        start, values, given = inputs if isinstance(inputs, PartialInputs) else PartialInputs(0, (), inputs)
        if start == boundary:
            return values
        if self._run is None:
            return (self.backbone(given),)
        if start and self.cuts.found[start].writes:
            values = _copied(values)
        return self._run(start, values, given, None if boundary == self.cuts.boundaries[-1] else boundary)


class Layout(NamedTuple):
    """What one example's value looks like."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A boundary that holds: its values, and whether the code behind it writes into them."""

    layouts: tuple[Layout, ...]
    writes: bool


def _tried(
    way: Way, backbone: nn.Module, groups: Sequence[LayerGroup], examples: Tensors, whole: Tensor
) -> dict[int, Found]:
    """The boundaries of a way that hold on those examples, ascending; the backbone is changed."""
    run = way.on(backbone.eval())
    rows = [index_inputs(examples, torch.tensor([index])) for index in range(len(whole))]
    if way.is_one_program and (found := _in_a_row(run, way, rows, whole)):
        return found
    found = {}
    start = 0
    ones: list[Values] = [()] * len(rows)
    for boundary in sorted(way.cuts):
        with suppress(Exception), torch.no_grad():  # what fails is no cut
            reached = [run(start, one, row, boundary) for one, row in zip(ones, rows, strict=True)]
            values = tuple(torch.cat(parts) for parts in zip(*reached, strict=True))
            given = [value.clone() for value in values]
            if _same(run(boundary, values, examples, None)[0], whole):
                writes = not all(map(torch.equal, values, given))
                found[boundary] = Found(layouts=_layouts(values), writes=writes)
                start, ones = boundary, [tuple(value.clone() for value in one) for one in reached]
    for boundary in sorted(found, reverse=True):  # batch norms that train move on, but only behind the boundary
        if not _trains_alike(run, backbone, groups, examples, boundary=boundary):
            del found[boundary]
    return found


def _in_a_row(run: Run, way: Way, rows: list[Tensors], whole: Tensor) -> dict[int, Found]:
    """All boundaries of a program that is the same in training, tried by one pass that stops at each; or none."""
    found: dict[int, Found] = {}
    start = 0
    ones: list[Values] = [()] * len(rows)
    with suppress(Exception), torch.no_grad():
        for boundary in (*sorted(way.cuts), None):
            given = [tuple(value.clone() for value in one) for one in ones]
            reached = [run(start, one, row, boundary) for one, row in zip(given, rows, strict=True)]
            if start:
                writes = not all(map(torch.equal, given[0], ones[0]))
                found[start] = Found(layouts=_layouts(ones[0]), writes=writes)
            start, ones = boundary or 0, [tuple(value.clone() for value in one) for one in reached]
        if _same(torch.cat([one[0] for one in ones]), whole):
            return found
    return {}


def _is_of_each(backbone: nn.Module, examples: Tensors, together: Tensor) -> bool:
    """Whether features are a function of each example alone, and the same each time."""
    with suppress(Exception):  # as a batch norm without statistics of its own does on one example
        apart = [_evaluated(backbone, index_inputs(examples, torch.tensor([index]))) for index in range(len(together))]
        return _same(torch.cat(apart), together)
    return False


def _trains_alike(
    run: Run, backbone: nn.Module, groups: Sequence[LayerGroup], examples: Tensors, *, boundary: int
) -> bool:
    """Whether a backbone that trains behind a boundary can go on from there, with the same random numbers."""
    set_trainable(groups, [index >= boundary for index in range(len(groups))])
    with suppress(Exception):
        torch.manual_seed(1)  # what is drawn on the way there is no constant
        values = run(0, (), examples, boundary)
        if any(value.requires_grad for value in values):  # a parameter behind it has a part in them
            return False
        torch.manual_seed(0)
        whole = backbone(examples)
        torch.manual_seed(0)
        return _same(run(boundary, values, examples, None)[0], whole)
    return False


def _evaluated(backbone: nn.Module, examples: Tensors) -> Tensor:
    modes = {module: module.training for module in backbone.modules()}
    try:
        with torch.no_grad():
            features: Tensor = backbone.eval()(examples)
            return features
    finally:
        for module, training in modes.items():
            module.training = training


def _same(tensor: Tensor, other: Tensor) -> bool:
    if tensor.shape != other.shape:
        return False
    return bool((tensor - other).abs().max() <= ROUNDING * other.abs().max())


def _copied(values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(value.clone(memory_format=torch.contiguous_format) for value in values)


def _layouts(values: tuple[Tensor, ...]) -> tuple[Layout, ...]:
    return tuple(Layout(tuple(value.shape[1:]), value.dtype) for value in values)


@contextmanager
def _aside(examples: Tensors) -> Iterator[None]:
    """Without a trace: no random numbers are drawn, no warnings of other people's code shown."""
    tensors = [*examples.values()] if isinstance(examples, dict) else [examples]
    devices = {tensor.device for tensor in tensors if tensor.is_cuda}
    with torch.random.fork_rng(devices=[*devices]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
