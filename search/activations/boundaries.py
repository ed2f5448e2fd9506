"""A backbone cut between its layer groups, to resume from the frozen ones' outputs."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from search.activations.boundary_search import MIXED, BoundaryFound, Search, search_boundaries
from search.activations.partial_forward import PartialForward, Resume
from search.activations.recording import Cut, Recording
from search.activations.slots import Filling, Layout, Values, full_length
from search.data.examples import Inputs, Tensors, tensors_of
from strategies import LayerGroup


class PartialInputs(NamedTuple):
    """Values at a boundary, each (N, ...), and the backbone's inputs if they are needed."""

    boundary: int
    values: Values
    inputs: Tensors | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Boundaries:
    """Places where a backbone of G layer groups can be cut.

    Boundary p is behind p of them, boundary G are its features.

    indices: ascending, the last is G; none where even the features are no function of each example alone.
    features: their layout.
    cuts: by boundary inside. Hold names and none of the backbone's tensors, so that they fit each copy.
    """

    indices: tuple[int, ...]
    features: Layout
    search: Search
    recording: Recording | None
    cuts: Mapping[int, Cut]

    @classmethod
    def of(
        cls,
        backbone: nn.Module,
        groups: Sequence[LayerGroup],
        examples: Tensors,
        *,
        known: Mapping[int, BoundaryFound] | None = None,
    ) -> Self:
        """Return a backbone's boundaries: the `known` ones if all hold, or a search's.

        There must be two examples or more.
        """
        with _without_trace(backbone, examples):
            search = search_boundaries(backbone, groups, examples, known=known) if known else None
            if search is None or search.found != known:
                search = search_boundaries(backbone, groups, examples)
            recording = Recording.of(backbone, groups, examples) if search.found else None
            with torch.no_grad():
                features = backbone(examples)
        cuts = {}
        if recording is not None:
            cuts = {boundary: recording.cuts(boundary)[found.cut] for boundary, found in search.found.items()}
        indices = (*cuts, len(groups)) if search.reason != MIXED else ()
        layout = Layout(tuple(features.shape[1:]), features.dtype)
        return cls(indices=indices, features=layout, search=search, recording=recording, cuts=cuts)

    def needs_inputs(self, boundary: int) -> bool:
        """Return whether resuming there takes the backbone's own inputs too."""
        return boundary in self.cuts and self.search.found[boundary].needs_inputs

    def layouts_of(self, boundary: int, inputs: Inputs) -> tuple[Layout, ...]:
        """Return the layouts of one example's values; series are as long as those inputs."""
        cut = self.cuts.get(boundary)
        return (self.features,) if cut is None else cut.layouts(full_length(inputs))

    def on(self, backbone: nn.Module) -> "PartialBackbone":
        """Bind to a copy of the backbone: some milliseconds at most."""
        return PartialBackbone(self, backbone)


class PartialBackbone:
    """A backbone that runs in parts.

    Its modules run in the mode they are in; frozen ones belong in `eval()`.
    """

    def __init__(self, boundaries: Boundaries, backbone: nn.Module) -> None:
        self.boundaries = boundaries
        self.backbone = backbone
        self._run = PartialForward(boundaries.recording, backbone) if boundaries.recording is not None else None

    def run_to(self, inputs: Tensors | PartialInputs, boundary: int) -> Values:
        """Return the values at a boundary, each (N, ...), from inputs or an earlier boundary.

        They have no gradients. Raises `ValueError` where the backbone can't be cut.
        """
        with torch.no_grad():
            return _copied(self._between(inputs, boundary))

    def run_from(self, resumed: PartialInputs) -> Tensor:
        """Return the features (N, F), from a boundary."""
        return self._between(resumed, self.boundaries.indices[-1])[0]

    def _between(self, inputs: Tensors | PartialInputs, boundary: int) -> Values:
        if boundary not in self.boundaries.indices:
            allowed = ", ".join(map(str, self.boundaries.indices))
            raise ValueError(f"The backbone can't be cut at {boundary}, only at {allowed}.")
        start, values, given = inputs if isinstance(inputs, PartialInputs) else PartialInputs(0, (), inputs)
        if start == boundary:
            return values
        if self._run is None:
            return (self.backbone(given),)
        resume = None
        if start:
            found = self.boundaries.search.found[start]
            values = _copied(values) if found.writes else values
            resume = Resume(cut=self.boundaries.cuts[start], values=values, filling=Filling(solid=found.solid))
        return self._run(given, resume=resume, stop=self.boundaries.cuts.get(boundary))


def _copied(values: Values) -> Values:
    return tuple(value.clone(memory_format=torch.contiguous_format) for value in values)


@contextmanager
def _without_trace(backbone: nn.Module, examples: Tensors) -> Iterator[None]:
    """Put a backbone in `eval()` for a while, without its random numbers and warnings."""
    devices = {tensor.device for tensor in tensors_of(examples) if tensor.is_cuda}
    modes = {module: module.training for module in backbone.modules()}
    with torch.random.fork_rng(devices=[*devices]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        backbone.eval()
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training
