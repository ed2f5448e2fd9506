"""The search for boundaries: each possible cut is tried on some examples, in evaluation and in training."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from search.activations.partial_forward import PartialForward, Resume
from search.activations.recording import Cut, Recording
from search.activations.slots import Filling, Values
from search.data.examples import Tensors, index_inputs
from search.user_code import one_line
from strategies import LayerGroup
from strategies.freeze import set_trainable

TOLERANCE = 1e-4
"""Features that differ by more, in shares of the largest, are other features."""
FILLINGS = (Filling(math.nan), Filling(), Filling(solid=True))
"""Placeholders to try: NaN shows whatever depends on one; some code refuses it, and some writes into its inputs."""
MIXED = "what it makes of an example depends on the others, or on chance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A boundary that holds.

    cut: index among the recording's cuts there.
    needs_inputs: resuming takes the backbone's own inputs too.
    writes: the code behind it writes into the values.
    solid: the code behind it writes into placeholders.
    """

    cut: int
    needs_inputs: bool
    writes: bool
    solid: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """The boundaries inside a backbone, ascending, and why there are none in one clause ("" where there are)."""

    found: Mapping[int, Found]
    reason: str


def search_boundaries(backbone: nn.Module, groups: Sequence[LayerGroup], examples: Tensors) -> Search:
    """Find where a backbone in `eval()` can be cut; its random numbers are drawn, else it stays as it is.

    A boundary counts if resuming there gives what the whole backbone gives: in evaluation, from values that were
    computed one example at a time; and in training, with the groups before it frozen.
    """
    reason = ""
    try:
        backbone, groups = deepcopy((backbone, list(groups)))
    except Exception as error:  # tensors that are made of parameters, as by `weight_norm`, can't be copied
        reason = f"it can't be copied ({one_line(error)})"
    with torch.no_grad():
        whole = backbone(examples)
    rows = [index_inputs(examples, torch.tensor([index])) for index in range(len(whole))]
    if not _is_of_each(backbone, rows, whole):
        return Search(found={}, reason=MIXED)
    if reason or len(groups) == 1:
        return Search(found={}, reason=reason or "it has one layer group")
    try:
        recording = Recording.of(backbone, groups, examples)
    except Exception as error:  # other people's code may raise anything on twice the examples
        return Search(found={}, reason=f"its code can't be followed ({one_line(error)})")
    trials = _Trials(recording, backbone, groups, examples, rows, whole)
    found = {boundary: one for boundary in range(1, len(groups)) if (one := trials.first(boundary)) is not None}
    reason = "" if found else "its layer groups do not run one after another, each example for itself"
    return Search(found=found, reason=reason)


class _Trials:
    """Cuts tried on a backbone that is changed."""

    def __init__(
        self,
        recording: Recording,
        backbone: nn.Module,
        groups: Sequence[LayerGroup],
        examples: Tensors,
        rows: list[Tensors],
        whole: Tensor,
    ) -> None:
        self.recording = recording
        self.backbone = backbone
        self.groups = groups
        self.examples = examples
        self.rows = rows
        self.whole = whole
        self.run = PartialForward(recording, backbone)
        self.buffers = [(buffer, buffer.clone()) for buffer in backbone.buffers()]
        self.reached: list[Resume | None] = [None] * len(rows)

    def first(self, boundary: int) -> Found | None:
        """Return the first cut at a boundary that holds; later ones are then tried from there."""
        for number, cut in enumerate(self.recording.cuts(boundary)):
            with suppress(Exception):  # a cut that fails is none
                if (found := self._tried(cut, number, boundary)) is not None:
                    return found
        return None

    def _tried(self, cut: Cut, number: int, boundary: int) -> Found | None:
        with torch.no_grad():
            starts = [resume and _fresh(resume) for resume in self.reached]
            ones = [self.run(row, resume=start, stop=cut) for row, start in zip(self.rows, starts, strict=True)]
        values = tuple(torch.cat(parts) for parts in zip(*ones, strict=True))
        for inputs in (None, self.examples):
            for filling in FILLINGS:
                resume = Resume(cut=cut, values=_cloned(values), filling=filling)
                try:
                    with torch.no_grad():
                        (features,) = self.run(inputs, resume=resume, stop=None)
                    if not _same(features, self.whole) or not self._trains_alike(resume, inputs, boundary):
                        break
                except Exception:
                    continue
                self.reached = [Resume(cut=cut, values=_cloned(one), filling=filling) for one in ones]
                writes = not all(map(torch.equal, resume.values, values))
                return Found(cut=number, needs_inputs=inputs is not None, writes=writes, solid=filling.solid)
        return None

    def _trains_alike(self, resume: Resume, inputs: Tensors | None, boundary: int) -> bool:
        """Return whether a backbone that trains behind a boundary can resume there, with the same random numbers."""
        set_trainable(self.groups, [index >= boundary for index in range(len(self.groups))])
        try:
            torch.manual_seed(1)  # what is drawn on the way there is no constant
            values = self.run(self.examples, resume=None, stop=resume.cut)
            if any(value.requires_grad for value in values):  # a parameter behind it has a part in them
                return False
            torch.manual_seed(0)
            whole = self.backbone(self.examples)
            torch.manual_seed(0)
            trained = Resume(cut=resume.cut, values=values, filling=resume.filling)
            return _same(self.run(inputs, resume=trained, stop=None)[0], whole)
        finally:
            self.backbone.eval()
            for buffer, value in self.buffers:
                buffer.copy_(value)


def _is_of_each(backbone: nn.Module, rows: list[Tensors], together: Tensor) -> bool:
    """Return whether features are a function of each example alone, and the same each time."""
    with suppress(Exception), torch.no_grad():  # as a batch norm without statistics of its own raises on one example
        return _same(torch.cat([backbone(row) for row in rows]), together)
    return False


def _fresh(resume: Resume) -> Resume:
    return Resume(cut=resume.cut, values=_cloned(resume.values), filling=resume.filling)


def _cloned(values: Values) -> Values:
    return tuple(value.clone() for value in values)


def _same(tensor: Tensor, other: Tensor) -> bool:
    return tensor.shape == other.shape and bool((tensor - other).abs().max() <= TOLERANCE * other.abs().max())
