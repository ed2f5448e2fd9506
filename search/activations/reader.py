"""Inputs of a run in each epoch: the examples, or outputs of its frozen layers."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf

import torch
from torch import Tensor, nn

from search.activations.boundaries import PartialBackbone, PartialInputs
from search.activations.frozen_prefix import FrozenPrefix
from search.activations.slots import Values
from search.activations.store import to_float16
from search.data.batches import Reading
from search.data.examples import Examples, index_inputs
from search.device import eval_batch
from strategies import FreezingStrategy

MAX_COPIED_BYTES = 32 * 10**6
"""Blocks of fewer bytes together are copied for each run, and then indexed at once."""


def reader_of(
    frozen_prefix: FrozenPrefix, strategy: FreezingStrategy, backbone: nn.Module, *, repeat: int, size: int
) -> "Reader | None":
    """Return the reader of a run on a fresh backbone; None for plain examples."""
    task, epochs = frozen_prefix.task, frozen_prefix.task.spec.train.epochs
    schedule = strategy.schedule(task.num_groups, epochs)
    frozen = [schedule.frozen_prefix(epoch) for epoch in range(epochs)]
    at = tuple(max((b for b in frozen_prefix.boundaries.indices if b <= prefix), default=0) for prefix in frozen)
    if not any(at) or not strategy.pretrained or not frozen_prefix.sync_weights(backbone):
        return None
    partial = frozen_prefix.boundaries.on(backbone)
    return Reader(frozen_prefix, at, partial_backbone=partial, repeat=repeat, size=size)


class CachedExamples:
    """Some examples of a task, and their values at the boundaries.

    rows: one slice for each size up to this one: the examples that it added. The slices are contiguous from 0.
    reads: how many examples a run reads at each boundary.
    expected: how many examples other runs read, at any.
    views: how many augmented views of an example take turns; None where it is always read as it is.
    """

    def __init__(
        self,
        frozen_prefix: FrozenPrefix,
        examples: Examples,
        *,
        name: tuple[object, ...],
        rows: list[slice],
        reads: dict[int, int],
        expected: float = 0,
        views: float | None = None,
    ) -> None:
        self.frozen_prefix = frozen_prefix
        self.examples = examples
        self.name = name
        self.rows = rows
        self.views = views
        kept = frozen_prefix.kept(int(views or 1) * len(examples)) if views != inf else ()
        self.kept = sorted(kept, reverse=True)
        own = Counter[int]()
        for boundary, read in reads.items():
            own[max((one for one in kept if one <= boundary), default=0)] += read
        # Fill a boundary if, on average, each example is read from it at least once.
        self.fills = {boundary: own[boundary] + expected >= len(examples) for boundary in kept}
        self._blocks: dict[tuple[int, int | None], list[Values] | None] = {}

    def __len__(self) -> int:
        return len(self.examples)

    def at(self, boundary: int) -> Examples:
        """Return the examples as they are read at a boundary; at 0, as they are."""
        return replace(self.examples, inputs=Activations(self, boundary)) if boundary else self.examples

    def take(self, boundary: int, indices: Tensor, passes: Tensor | None) -> PartialInputs:
        """Return the partial inputs of those examples (B,), in the views that `passes` (B,) say."""
        if passes is None or self.views is None:
            values = self._of(boundary, indices, None)
        else:
            shown = passes if self.views == inf else passes % int(self.views)
            several = [(shown == view).nonzero().squeeze(1) for view in torch.unique(shown)]
            apart = [self._of(boundary, indices[where], int(shown[where[0]])) for where in several]
            back = torch.cat(several).argsort()
            values = tuple(torch.cat(parts)[back.to(parts[0].device)] for parts in zip(*apart, strict=True))
        return self._resumed(boundary, values, indices, passes)

    def _resumed(self, boundary: int, values: Values, indices: Tensor, passes: Tensor | None) -> PartialInputs:
        needed = self.frozen_prefix.boundaries.needs_inputs(boundary)
        return PartialInputs(boundary, values, index_inputs(self.examples.inputs, indices, passes) if needed else None)

    def _of(self, boundary: int, indices: Tensor, view: int | None, *, before: int | None = None) -> Values:
        """Compute values of one view, from the nearest boundary below `before` that is kept."""
        passes = None if view is None else torch.full_like(indices, view)
        for kept in self.kept:
            if kept > boundary or (before is not None and kept >= before):
                continue
            if (blocks := self._kept(kept, view)) is not None:
                layouts = self.frozen_prefix.boundaries.layouts_of(kept, self.examples.inputs)
                gathered = _gathered(blocks, self.rows, indices)
                found = tuple(value.to(one.dtype) for value, one in zip(gathered, layouts, strict=True))
                if kept == boundary:
                    return found
                return self.frozen_prefix.values(self._resumed(kept, found, indices, passes), boundary)
        return self.frozen_prefix.values(index_inputs(self.examples.inputs, indices, passes), boundary)

    def _kept(self, boundary: int, view: int | None) -> list[Values] | None:
        """Return a boundary's blocks, one a step of rows; None where one is not kept."""
        place = (boundary, view)
        if place not in self._blocks:
            blocks = [block for rows in self.rows if (block := self._block(boundary, rows, view)) is not None]
            self._blocks[place] = _joined(blocks) if len(blocks) == len(self.rows) else None
        return self._blocks[place]

    def _block(self, boundary: int, rows: slice, view: int | None) -> Values | None:
        frozen_prefix = self.frozen_prefix

        def compute() -> Iterator[Values]:
            for indices in torch.split(
                torch.arange(rows.start, rows.stop), eval_batch(frozen_prefix.task.spec.train.batch_size)
            ):
                values = tuple(value.cpu() for value in self._of(boundary, indices, view, before=boundary))
                yield to_float16(values) if frozen_prefix.half else values

        return frozen_prefix.store.get(
            frozen_prefix.key(self.examples, rows, boundary, view, name=self.name),
            frozen_prefix.layout(boundary, self.examples.inputs, rows=rows.stop - rows.start),
            compute,
            fill=self.fills[boundary],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Activations:
    """Inputs of N examples as values at a boundary."""

    cached: CachedExamples
    boundary: int

    def __len__(self) -> int:
        return len(self.cached)

    def subset(self, indices: Tensor) -> "Activations":
        raise TypeError("Subsets are drawn of the examples themselves.")

    def take(self, indices: Tensor, passes: Tensor | None) -> PartialInputs:
        return self.cached.take(self.boundary, indices, passes)


@dataclass(frozen=True, slots=True, eq=False)
class ByEpoch:
    """Examples read in each epoch at the last boundary before the groups that train."""

    cached: CachedExamples
    boundaries: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.cached)

    def at(self, epoch: int) -> Examples:
        return self.cached.at(self.boundaries[epoch])


class Reader:
    """Training, validation and test examples of a run, read where its frozen groups end.

    boundaries: by epoch.
    partial_backbone: the run's own, to resume there.
    """

    def __init__(
        self,
        frozen_prefix: FrozenPrefix,
        boundaries: tuple[int, ...],
        *,
        partial_backbone: PartialBackbone,
        repeat: int,
        size: int,
    ) -> None:
        self.frozen_prefix = frozen_prefix
        self.boundaries = boundaries
        self.partial_backbone = partial_backbone
        task, spec = frozen_prefix.task, frozen_prefix.task.spec
        split = task.split(repeat=repeat, size=size)
        train, validation, self._test = (task.take(part) for part in (split.train, split.validate, split.test))
        epochs = Counter(boundary for boundary in boundaries if boundary)
        # Exploring trials share repeat 0, spread evenly over freeze depths.
        # Filling a boundary on the way to a later one costs no more than its bytes.
        trials_a_depth = spec.search.trials / (task.num_groups + 1) if repeat == 0 else 0.0
        expected_epochs_of_other_trials = trials_a_depth * spec.train.epochs * (spec.space.freeze_depth is None)

        def read(
            examples: Examples, rows: list[slice], name: str, *, epoch: int, views: float | None = None
        ) -> ByEpoch:
            cached = CachedExamples(
                frozen_prefix,
                examples,
                name=(repeat, size, name),
                rows=rows,
                reads={boundary: n * epoch for boundary, n in epochs.items()},
                expected=expected_epochs_of_other_trials * epoch,
                views=views,
            )
            return ByEpoch(cached, boundaries)

        length = spec.train.steps * spec.train.batch_size if spec.train.steps else len(train)
        views = spec.train.views if spec.train.augment else None
        self.split: tuple[Reading, Reading] = (
            read(train, task.added_by_size(size), "train", epoch=length, views=views),
            read(validation, [slice(0, len(validation))], "validation", epoch=len(validation)),
        )
        self._test_name = (repeat, "test") if task.data.cross_validated else ("test",)

    def test(self, epoch: int) -> Examples:
        """Return the test examples, read as in that epoch."""
        boundary, test = self.boundaries[epoch], self._test
        reads = {boundary: len(test) * self.frozen_prefix.task.spec.confirm.repeats}
        cached = CachedExamples(self.frozen_prefix, test, name=self._test_name, rows=[slice(0, len(test))], reads=reads)
        return cached.at(boundary)


def _joined(blocks: list[Values]) -> list[Values]:
    """Return small blocks end to end: a batch is then found by one indexing."""
    if sum(tensor.nbytes for block in blocks for tensor in block) > MAX_COPIED_BYTES:
        return blocks
    return [tuple(torch.cat(parts) for parts in zip(*blocks, strict=True))]


def _gathered(blocks: list[Values], rows: list[slice], indices: Tensor) -> Values:
    if len(blocks) == 1:
        return tuple(tensor[indices] for tensor in blocks[0])
    values = tuple(tensor.new_empty((len(indices), *tensor.shape[1:])) for tensor in blocks[0])
    for block, step in zip(blocks, rows, strict=True):
        here = (indices >= step.start) & (indices < step.stop)
        for tensor, value in zip(block, values, strict=True):
            value[here] = tensor[indices[here] - step.start]
    return values
