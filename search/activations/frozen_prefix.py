"""Frozen layers, run once for all trials of a study, and their cached outputs."""

from collections.abc import Callable
from copy import deepcopy
from math import ceil
from pathlib import Path

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn

from search.activations.block import BlockLayout
from search.activations.boundaries import PartialBackbone, PartialInputs
from search.activations.boundary_file import boundaries_of
from search.activations.placement import BoundaryCost, choose_boundaries
from search.activations.slots import Values
from search.activations.store import ActivationStore, Budget
from search.data.examples import Examples, Inputs, cache_key
from search.device import device_of
from search.digest import digest, state_digest
from search.models.flops import forward_flops
from search.task.task import Task
from strategies import FreezingStrategy, layer_groups

GIGABYTE = 10**9
MAX_SETS = 4
"""Sets of examples with room at once: training, validation and test, of several repeats."""
PROBE_EXAMPLES = 2
"""Examples that a backbone is tried on, to find where it can be cut."""


class FrozenPrefix:
    """A backbone in `eval()` that never trains, and the store of its values at boundaries.

    As long as the first p layer groups of a trial's backbone are frozen, they compute what this one's do. So they
    run here, once for all trials of a study. Their outputs are kept at the boundaries between groups where that is
    worth its bytes. A value is the same whether it was kept or is computed again: budgets change no result.

    One a worker.

    say: is called with the boundaries that can't be kept, and why.
    progress: is called after each batch, and now and then while another process makes one.
    """

    def __init__(
        self, task: Task, *, cache: Path, say: Callable[[str], None], progress: Callable[[], None] = lambda: None
    ) -> None:
        wanted = task.spec.activations
        self.task = task
        self.half = wanted.dtype == "float16"
        self.budget = Budget(memory=int(wanted.memory * GIGABYTE), disk=int(wanted.disk * GIGABYTE))
        self.store = ActivationStore(cache / "activations", self.budget, say=say, waiting=progress)
        self.device = device_of(task.spec.train.accelerator)
        self.backbone: PartialBackbone | None = None
        self._weights = ""  # digest of the backbone's weights
        self._features = ""  # digest of a few examples' features: code may change under the same weights
        few = task.data.pool.take(torch.arange(PROBE_EXAMPLES) % len(task.data.pool))[0]
        backbone = task.build(FreezingStrategy(freeze_depth=0), repeat=0)[0].to(self.device)
        groups = layer_groups(backbone, groups=task.spec.model.groups)
        self._few = move_data_to_device(few, self.device)
        self.boundaries = boundaries_of(backbone, groups, self._few, folder=cache)
        if reason := self.boundaries.search.reason:
            kept = "only its features are kept" if self.boundaries.indices else "its frozen layers run in each trial"
            say(f"[model] backbone = {task.spec.model.backbone!r}: {reason}; {kept}.")
        each = [flops / PROBE_EXAMPLES for flops in forward_flops(backbone, groups, self._few)]
        self._costs = [
            BoundaryCost(index=index, nbytes=self.layout(index, self._few, rows=1).nbytes, flops=sum(each[:index]))
            for index in self.boundaries.indices
        ]
        self._contents: dict[tuple[object, ...], str] = {}
        self._kept: dict[int, tuple[int, ...]] = {}
        self._say = say
        self._progress = progress
        self._has_said = False

    @staticmethod
    def of(
        task: Task, *, cache: Path, say: Callable[[str], None], progress: Callable[[], None] = lambda: None
    ) -> "FrozenPrefix | None":
        """Return a task's prefix; None, with a message, where frozen layers run in each trial."""
        if task.spec.activations.memory == task.spec.activations.disk == 0:
            return None
        if task.parts.module is not None:
            say("[model] backbone: a LightningModule's own steps want the inputs; its frozen layers run in each trial.")
            return None
        frozen_prefix = FrozenPrefix(task, cache=cache, say=say, progress=progress)
        return frozen_prefix if frozen_prefix.boundaries.indices else None

    def sync_weights(self, backbone: nn.Module) -> bool:
        """Take the weights of a trial's fresh backbone; False where it can't be copied.

        Those that a study names are the same in every trial; a user's function may make others each time.
        """
        if self.backbone is not None and self.task.weights is not None:
            return True
        weights = state_digest(backbone)
        if weights != self._weights:
            try:
                frozen = deepcopy(backbone).to(self.device).eval().requires_grad_(False)
            except RuntimeError:  # tensors that are made of parameters, as by `weight_norm`, can't be copied
                return False
            self._weights, self.backbone = weights, self.boundaries.on(frozen)
            (features,) = self.backbone.run_to(self._few, self.boundaries.indices[-1])
            self._features = digest(features.half())
        return True

    def values(self, start: PartialInputs | Tensor | dict[str, Tensor], boundary: int) -> Values:
        """Return the frozen groups' values at a boundary, from inputs or from an earlier one."""
        assert self.backbone is not None
        made = self.backbone.run_to(move_data_to_device(start, self.device), boundary)
        self._progress()
        return made

    def kept(self, examples: int) -> tuple[int, ...]:
        """Return the boundaries at which so many examples, views counted in, are kept."""
        if examples not in self._kept:
            memory, room = self.budget.memory, max(self.budget.memory, self.budget.disk) // MAX_SETS
            wanted, kept = (
                choose_boundaries(self._costs, examples=examples, room=limit, in_memory=memory)
                for limit in (2**63, room)
            )
            if missing := set(wanted) - set(kept):
                self._say_room(examples, missing, wanted)
            self._kept[examples] = kept
        return self._kept[examples]

    def _say_room(self, examples: int, missing: set[int], wanted: tuple[int, ...]) -> None:
        if self._has_said:
            return
        self._has_said = True
        names = [group.name for group in self.task.groups]
        owners = ["the backbone" if one == len(names) else names[one - 1] for one in sorted(missing)]
        which = " and ".join(f"{owner}'s output" for owner in owners) + (" is" if len(owners) == 1 else " are")
        needed = MAX_SETS * examples * sum(one.nbytes for one in self._costs if one.index in wanted)
        self._say(
            f"The cache is too small for {examples} examples: {which} recomputed at each step. "
            f"Set [activations] disk = {ceil(100 * needed / GIGABYTE) / 100:.2f} or more."
        )

    def layout(self, boundary: int, inputs: Inputs, *, rows: int) -> BlockLayout:
        """Return the layout of a block of those inputs' values at a boundary, as kept."""
        layouts = self.boundaries.layouts_of(boundary, inputs)
        if self.half:
            layouts = tuple(one._replace(dtype=_halved(one.dtype)) for one in layouts)
        return BlockLayout(rows=rows, values=layouts)

    def key(self, examples: Examples, rows: slice, boundary: int, view: int | None, *, name: tuple[object, ...]) -> str:
        """Return a digest of all that some examples' values are computed from."""
        place = (*name, rows.start, rows.stop, view is None)
        if place not in self._contents:
            indices = torch.arange(rows.start, rows.stop)
            self._contents[place] = digest(*cache_key(examples.inputs, indices, augmented=view is not None))
        made = (
            torch.__version__,
            self.device.type,
            self._weights,
            self._features,
            boundary,
            repr(self.layout(boundary, examples.inputs, rows=0)),
            self.boundaries.cuts[boundary].name if boundary in self.boundaries.cuts else None,
        )
        return digest(*made, self._contents[place], view)


def _halved(dtype: torch.dtype) -> torch.dtype:
    return torch.float16 if dtype == torch.float32 else dtype
