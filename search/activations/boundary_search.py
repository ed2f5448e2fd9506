"""The search for boundaries: cuts tried on some examples, in evaluation and in training."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

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
"""Placeholders to try.

NaN shows what depends on one. Some code refuses it, some writes into its inputs.
"""
MIXED = "what it makes of an example depends on the others, or on chance"


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundaryFound:
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
    """The boundaries inside a backbone, ascending, or the reason that there are none."""

    found: Mapping[int, BoundaryFound]
    reason: str


def search_boundaries(
    backbone: nn.Module,
    groups: Sequence[LayerGroup],
    examples: Tensors,
    *,
    known: Mapping[int, BoundaryFound] | None = None,
) -> Search:
    """Find where a backbone in `eval()` can be cut, or which `known` cuts hold.

    It stays as it is, but draws random numbers.

    A boundary counts if resuming there gives what the whole backbone gives. In evaluation, the values are computed one
    example at a time. In training, the groups before the boundary are frozen.
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
    run = PartialForward(recording, backbone)
    found: dict[int, BoundaryFound] = {}
    reached: list[Resume | None] = [None] * len(rows)  # the last boundary found, for each example
    for boundary in range(1, len(groups)):
        training = partial(_trains_alike, run, groups, examples, boundary)
        for number, cut in enumerate(recording.cuts(boundary)):
            if known is not None and (boundary not in known or known[boundary].cut != number):
                continue
            with suppress(Exception), torch.no_grad():  # a cut that fails is none
                ones = [
                    run(row, resume=start and start.copy(), stop=cut) for row, start in zip(rows, reached, strict=True)
                ]
                values = tuple(torch.cat(parts) for parts in zip(*ones, strict=True))
                if (resumed := _first_that_resumes(run, cut, number, values, examples, whole, training)) is None:
                    continue
                found[boundary], resume = resumed
                reached = [replace(resume, values=one).copy() for one in ones]
                break
    reason = "" if found else "its layer groups do not run one after another, each example for itself"
    return Search(found=found, reason=reason)


def _first_that_resumes(
    run: PartialForward,
    cut: Cut,
    number: int,
    values: Values,
    examples: Tensors,
    whole: Tensor,
    trains_alike: Callable[[Resume, Tensors | None], bool],
) -> tuple[BoundaryFound, Resume] | None:
    """Return the boundary at a cut and how to resume there; None if nothing does.

    number: the cut's among the recording's.
    """
    for inputs in (None, examples):
        for filling in FILLINGS:
            resume = Resume(cut=cut, values=values, filling=filling).copy()
            with suppress(Exception):
                (features,) = run(inputs, resume=resume, stop=None)
                if not _same(features, whole) or not trains_alike(resume, inputs):
                    break
                writes = not all(map(torch.equal, resume.values, values))
                needed = inputs is not None
                return BoundaryFound(cut=number, needs_inputs=needed, writes=writes, solid=filling.solid), resume
    return None


def _trains_alike(
    run: PartialForward,
    groups: Sequence[LayerGroup],
    examples: Tensors,
    boundary: int,
    resume: Resume,
    inputs: Tensors | None,
) -> bool:
    """Return whether training behind a boundary is the same when resumed there."""
    buffers = [(buffer, buffer.clone()) for buffer in run.backbone.buffers()]
    set_trainable(groups, [index >= boundary for index in range(len(groups))])
    try:
        with torch.enable_grad():
            torch.manual_seed(1)  # what is drawn on the way there is no constant
            values = run(examples, resume=None, stop=resume.cut)
            if any(value.requires_grad for value in values):  # a parameter behind it has a part in them
                return False
            torch.manual_seed(0)
            whole = run.backbone(examples)
            torch.manual_seed(0)
            return _same(run(inputs, resume=replace(resume, values=values), stop=None)[0], whole)
    finally:
        run.backbone.eval()
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def _is_of_each(backbone: nn.Module, rows: list[Tensors], together: Tensor) -> bool:
    """Return whether features depend on each example alone, and are the same each time."""
    with suppress(Exception), torch.no_grad():  # as a batch norm without statistics of its own raises on one example
        return _same(torch.cat([backbone(row) for row in rows]), together)
    return False


def _same(tensor: Tensor, other: Tensor) -> bool:
    return tensor.shape == other.shape and bool((tensor - other).abs().max() <= TOLERANCE * other.abs().max())
