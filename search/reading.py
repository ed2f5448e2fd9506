"""What a run reads in each epoch: examples as they are, or what its frozen layers make of them, computed once."""

from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from math import inf
from pathlib import Path

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn

from search.activations import ActivationStore, Budget, halved
from search.activations.digests import digest, state_digest
from search.activations.worth import Boundary, worthwhile
from search.anatomy import forward_flops
from search.stages import Cuts, Resumed, Stages
from search.tasks.examples import Examples, content, taken
from search.tasks.loading import Reading
from search.tasks.module import device_of, eval_batch
from search.tasks.task import Task
from strategies import FreezingStrategy, layer_groups

Values = tuple[Tensor, ...]
GIGABYTE = 10**9
SETS = 4
"""So many sets of examples must find room at once: training, validation and test ones, of more than one chain."""
SMALL = 32 * 10**6
"""Blocks of fewer bytes together are copied for each run rather than looked into one by one."""
PROBES = 2
"""So many examples a backbone is tried on, to find where it can be cut."""


class FrozenLayers:
    """A backbone in `eval()` that never trains, what it makes of which examples, and what is kept of that.

    As long as the first p layer groups of a trial's backbone are frozen, they compute what this one's do. So they
    run here, once for all trials of a study, and what comes out is kept at the boundaries between groups where that
    is worth its bytes. Whether a value was kept or is computed again, it is the same: budgets change no result.

    One a worker. `say` tells the user what can't be kept, and why.
    """

    def __init__(self, task: Task, *, cache: Path, say: Callable[[str], None]) -> None:
        wanted = task.spec.activations
        self.task = task
        self.half = wanted.dtype == "float16"
        self.budget = Budget(memory=int(wanted.memory * GIGABYTE), disk=int(wanted.disk * GIGABYTE))
        self.store = ActivationStore(cache / "activations", self.budget, say=say)
        self.device = device_of(task.spec.train.accelerator)
        self.weights = ""  # the digest of those below ...
        self.features = ""  # ... and what their code makes of a few examples: it may be edited under the same weights
        self.stages: Stages | None = None
        few = task.data.pool.take(torch.arange(PROBES) % len(task.data.pool))[0]
        backbone = task.start(FreezingStrategy(freeze_depth=0), chain=0)[0].to(self.device)
        groups = layer_groups(backbone, groups=task.spec.model.groups)
        self.few = few = move_data_to_device(few, self.device)
        self.cuts = Cuts.of(backbone, groups, few)
        if self.cuts.reason:
            kept = "only its features are kept" if self.cuts.boundaries else "its frozen layers run in each trial"
            say(f"[model] backbone = {task.spec.model.backbone!r}: {self.cuts.reason}; {kept}.")
        each = [flops / PROBES for flops in forward_flops(backbone, groups, few)]  # of an example
        self.boundaries = [
            Boundary(index=index, nbytes=self._nbytes(index), flops=sum(each[:index])) for index in self.cuts.boundaries
        ]
        self._contents: dict[tuple[object, ...], str] = {}
        self._kept: dict[int, tuple[int, ...]] = {}
        self._say = say
        self._told = False

    @staticmethod
    def of(task: Task, *, cache: Path, say: Callable[[str], None]) -> "FrozenLayers | None":
        """Those of a task; None where they are run in each trial, which is said."""
        if task.spec.activations.memory == task.spec.activations.disk == 0:
            return None
        if task.parts.module is not None:
            say("[model] backbone: a LightningModule's own steps want the inputs; its frozen layers run in each trial.")
            return None
        layers = FrozenLayers(task, cache=cache, say=say)
        return layers if layers.boundaries else None

    def reader(self, strategy: FreezingStrategy, backbone: nn.Module, *, chain: int, size: int) -> "Reader | None":
        """What a run of the strategy on that fresh backbone reads; None if that is the examples alone."""
        spec = self.task.spec
        schedule = strategy.schedule(self.task.num_groups, spec.train.epochs)
        frozen = [schedule.frozen_prefix(epoch) for epoch in range(spec.train.epochs)]
        at = tuple(max((b for b in self.cuts.boundaries if b <= prefix), default=0) for prefix in frozen)
        if not any(at) or not strategy.pretrained or not self._hold(backbone):
            return None
        return Reader(self, at, stages=self.cuts.on(backbone), chain=chain, size=size)

    def _hold(self, backbone: nn.Module) -> bool:
        # Weights that are given are the same in every trial; a user's function may make others each time.
        if self.stages is not None and self.task.weights is not None:
            return True
        weights = state_digest(backbone)
        if weights != self.weights:
            try:
                still = deepcopy(backbone).to(self.device).eval().requires_grad_(False)
            except RuntimeError:  # tensors that are made of parameters, as by `weight_norm`, can't be copied
                return False
            self.weights, self.stages = weights, self.cuts.on(still)
            self.features = digest(self.stages.until(self.few, self.cuts.boundaries[-1])[0].half())
        return True

    def values(self, start: Resumed | Tensor | dict[str, Tensor], boundary: int) -> Values:
        """What the frozen groups up to a boundary make of inputs, or of what they were at an earlier one."""
        assert self.stages is not None
        with torch.no_grad():
            return self.stages.until(move_data_to_device(start, self.device), boundary)

    def kept(self, examples: int) -> tuple[int, ...]:
        """The boundaries at which so many examples, views counted in, are kept."""
        if examples not in self._kept:
            memory, room = self.budget.memory, max(self.budget.memory, self.budget.disk) // SETS
            wanted, kept = (
                worthwhile(self.boundaries, examples=examples, room=limit, in_memory=memory) for limit in (2**63, room)
            )
            if missing := set(wanted) - set(kept):
                self._tell_of_room(examples, missing, wanted)
            self._kept[examples] = kept
        return self._kept[examples]

    def _tell_of_room(self, examples: int, missing: set[int], wanted: tuple[int, ...]) -> None:
        if self._told:
            return
        self._told = True
        names = [group.name for group in self.task.groups]
        which = ", ".join("the features" if one == len(names) else f"after {names[one - 1]}" for one in sorted(missing))
        needed = SETS * examples * sum(one.nbytes for one in self.boundaries if one.index in wanted)
        self._say(
            f"[activations] memory = {self.budget.memory / GIGABYTE:g} and disk = {self.budget.disk / GIGABYTE:g} have "
            f"not room for all that is worth keeping of {examples} examples; computed again each time: {which}. "
            f"{max(needed / GIGABYTE, 0.01):.2f} (GB) would hold it."
        )

    def _nbytes(self, boundary: int) -> int:
        layouts = zip(self.cuts.shapes(boundary), self.cuts.dtypes(boundary), strict=True)
        return sum(
            torch.Size(shape).numel() * (2 if self.half and dtype == torch.float32 else dtype.itemsize)
            for shape, dtype in layouts
        )

    def key(self, examples: Examples, rows: slice, boundary: int, view: int | None, *, name: tuple[object, ...]) -> str:
        """The name of some examples' values: by what they were computed from, so that nothing else is found."""
        place = (*name, rows.start, rows.stop, view is None)
        if place not in self._contents:
            indices = torch.arange(rows.start, rows.stop)
            self._contents[place] = digest(*content(examples.inputs, indices, augmented=view is not None))
        made = (
            torch.__version__,
            self.device.type,
            self.weights,
            self.features,
            boundary,
            repr(self.cuts.shapes(boundary)),
            self.half,
        )
        return digest(*made, self._contents[place], view)


class Part:
    """Some examples of a task, and their values at the boundaries.

    rows: the examples in the steps in which a chain's subset grows with the sizes; a smaller size's are part of a
    larger one's. reads: how many examples a run reads at each boundary. expected: how many other runs, at any.
    views: how many augmented ones of an example take turns; None where it is always read as it is.
    """

    def __init__(
        self,
        layers: FrozenLayers,
        examples: Examples,
        *,
        name: tuple[object, ...],
        rows: list[slice],
        reads: dict[int, int],
        expected: float = 0,
        views: float | None = None,
    ) -> None:
        self.layers = layers
        self.examples = examples
        self.name = name
        self.rows = rows
        self.views = views
        kept = layers.kept(int(views or 1) * len(examples)) if views != inf else ()
        self.kept = sorted(kept, reverse=True)
        own = Counter[int]()
        for boundary, read in reads.items():
            own[max((one for one in kept if one <= boundary), default=0)] += read
        # Worth its computation where an example is read once on the whole.
        self.fills = {boundary: own[boundary] + expected >= len(examples) for boundary in kept}
        self._blocks: dict[tuple[int, int | None], list[Values] | None] = {}

    def __len__(self) -> int:
        return len(self.examples)

    def at(self, boundary: int) -> Examples:
        """The examples as they are read at a boundary; at 0 as they are."""
        return Examples(Activations(self, boundary), self.examples.targets) if boundary else self.examples

    def take(self, boundary: int, indices: Tensor, passes: Tensor | None) -> Resumed:
        """What the backbone goes on from for those examples (B,); `passes` (B,) say which views."""
        if passes is None or self.views is None:
            values = self._of(boundary, indices, None)
        else:
            shown = passes if self.views == inf else passes % int(self.views)
            several = [(shown == view).nonzero().squeeze(1) for view in torch.unique(shown)]
            apart = [self._of(boundary, indices[where], int(shown[where[0]])) for where in several]
            back = torch.cat(several).argsort()
            values = tuple(torch.cat(parts)[back.to(parts[0].device)] for parts in zip(*apart, strict=True))
        needed = self.layers.cuts.needs_inputs(boundary)
        return Resumed(boundary, values, taken(self.examples.inputs, indices, passes) if needed else None)

    def _of(self, boundary: int, indices: Tensor, view: int | None, *, before: int | None = None) -> Values:
        """Values of one view: from the nearest boundary where they are kept, below `before`, computed from there."""
        passes = None if view is None else torch.full_like(indices, view)
        for kept in self.kept:
            if kept > boundary or (before is not None and kept >= before):
                continue
            if (blocks := self._kept(kept, view)) is not None:
                found = _gathered(blocks, self.rows, indices)
                if kept == boundary:
                    return found
                needed = self.layers.cuts.needs_inputs(kept)
                inputs = taken(self.examples.inputs, indices, passes) if needed else None
                return self.layers.values(Resumed(kept, found, inputs), boundary)
        return self.layers.values(taken(self.examples.inputs, indices, passes), boundary)

    def _kept(self, boundary: int, view: int | None) -> list[Values] | None:
        """The blocks of a boundary, one a step of rows; None where they are not to be had."""
        place = (boundary, view)
        if place not in self._blocks:
            blocks = [block for rows in self.rows if (block := self._block(boundary, rows, view)) is not None]
            self._blocks[place] = _joined(blocks) if len(blocks) == len(self.rows) else None
        return self._blocks[place]

    def _block(self, boundary: int, rows: slice, view: int | None) -> Values | None:
        layers = self.layers
        each = next(b.nbytes for b in layers.boundaries if b.index == boundary)

        def compute() -> Iterator[Values]:
            for indices in torch.split(torch.arange(rows.start, rows.stop), eval_batch(layers.task.spec.train)):
                values = tuple(value.cpu() for value in self._of(boundary, indices, view, before=boundary))
                yield halved(values) if layers.half else values

        return layers.store.get(
            layers.key(self.examples, rows, boundary, view, name=self.name),
            rows=rows.stop - rows.start,
            compute=compute,
            nbytes=each * (rows.stop - rows.start),
            fill=self.fills[boundary],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Activations:
    """Inputs of N examples as what a backbone goes on from at a boundary."""

    part: Part
    boundary: int

    def __len__(self) -> int:
        return len(self.part)

    def subset(self, indices: Tensor) -> "Activations":
        raise TypeError("Subsets are drawn of the examples themselves.")

    def take(self, indices: Tensor, passes: Tensor | None) -> Resumed:
        return self.part.take(self.boundary, indices, passes)


@dataclass(frozen=True, slots=True, eq=False)
class InEpochs:
    """A part of the data, read in each epoch at the boundary below what trains in it."""

    part: Part
    boundaries: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.part)

    def at(self, epoch: int) -> Examples:
        return self.part.at(self.boundaries[epoch])


class Reader:
    """What one run reads: its training, validation and test examples, in each epoch where its frozen groups end.

    stages: the run's own backbone, to go on from there.
    """

    def __init__(
        self, layers: FrozenLayers, boundaries: tuple[int, ...], *, stages: Stages, chain: int, size: int
    ) -> None:
        self.layers = layers
        self.boundaries = boundaries
        self.stages = stages
        task, spec = layers.task, layers.task.spec
        train, validation = task.split(chain=chain, size=size)
        epochs = Counter(boundary for boundary in boundaries if boundary)
        # Exploring trials share one chain. What is filled on the way to a later boundary costs no more than its bytes.
        others = spec.search.trials / (task.num_groups + 1) * spec.train.epochs if chain == 0 else 0.0
        others *= spec.space.freeze_depth is None
        steps = task.growth(chain=chain, size=size)

        def read(examples: Examples, place: int, name: str, *, epoch: int, views: float | None = None) -> InEpochs:
            part = Part(
                layers,
                examples,
                name=(chain, name),
                rows=[step[place] for step in steps if step[place].start < step[place].stop],
                reads={boundary: n * epoch for boundary, n in epochs.items()},
                expected=others * epoch,
                views=views,
            )
            return InEpochs(part, boundaries)

        length = spec.train.steps * spec.train.batch_size if spec.train.steps else len(train)
        views = spec.train.views if spec.train.augment else None
        self.parts: tuple[Reading, Reading] = (
            read(train, 0, "train", epoch=length, views=views),
            read(validation, 1, "validation", epoch=len(validation)),
        )

    def test(self, epoch: int) -> Examples:
        """The test examples, as the weights of that epoch go on from."""
        boundary, test = self.boundaries[epoch], self.layers.task.data.test
        reads = {boundary: len(test) * self.layers.task.spec.confirm.chains}
        part = Part(self.layers, test, name=("test",), rows=[slice(0, len(test))], reads=reads)
        return part.at(boundary)


def _joined(blocks: list[Values]) -> list[Values]:
    """Small blocks end to end: a batch is then found by one indexing."""
    if sum(tensor.nbytes for block in blocks for tensor in block) > SMALL:
        return blocks
    return [tuple(_whole(torch.cat(parts)) for parts in zip(*blocks, strict=True))]


def _whole(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.float16 else tensor


def _gathered(blocks: list[Values], rows: list[slice], indices: Tensor) -> Values:
    if len(blocks) == 1:
        values = tuple(tensor[indices] for tensor in blocks[0])
    else:
        values = tuple(tensor.new_empty((len(indices), *tensor.shape[1:])) for tensor in blocks[0])
        for block, step in zip(blocks, rows, strict=True):
            here = (indices >= step.start) & (indices < step.stop)
            for tensor, value in zip(block, values, strict=True):
                value[here] = tensor[indices[here] - step.start]
    return tuple(_whole(value) for value in values)
