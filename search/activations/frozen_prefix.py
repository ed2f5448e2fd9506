"""Frozen layers, run once for all trials of a study, and what is kept of what they make."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn

from search.activations.boundaries import Boundaries, PartialBackbone, PartialInputs, Values
from search.activations.placement import Boundary, choose_boundaries
from search.activations.store import ActivationStore, Budget
from search.data.examples import Examples, content
from search.device import device_of
from search.digest import digest, state_digest
from search.models.flops import forward_flops
from search.task.task import Task
from strategies import FreezingStrategy, layer_groups

GIGABYTE = 10**9
SETS = 4
"""So many sets of examples must find room at once: training, validation and test ones, of more than one repeat."""
PROBES = 2
"""So many examples a backbone is tried on, to find where it can be cut."""


class FrozenPrefix:
    """A backbone in `eval()` that never trains, what it makes of which examples, and what is kept of that.

    As long as the first p layer groups of a trial's backbone are frozen, they compute what this one's do. So they
    run here, once for all trials of a study, and what comes out is kept at the boundaries between groups where that
    is worth its bytes. Whether a value was kept or is computed again, it is the same: budgets change no result.

    One a worker. `say` tells the user what can't be kept, and why. `progress` is called after each batch, and now and
    then while another process makes one.
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
        self.weights = ""  # the digest of those below ...
        self.features = ""  # ... and what their code makes of a few examples: it may be edited under the same weights
        self.stages: PartialBackbone | None = None
        few = task.data.pool.take(torch.arange(PROBES) % len(task.data.pool))[0]
        backbone = task.start(FreezingStrategy(freeze_depth=0), repeat=0)[0].to(self.device)
        groups = layer_groups(backbone, groups=task.spec.model.groups)
        self.few = few = move_data_to_device(few, self.device)
        self.cuts = Boundaries.of(backbone, groups, few)
        if self.cuts.reason:
            kept = "only its features are kept" if self.cuts.boundaries else "its frozen layers run in each trial"
            say(f"[model] backbone = {task.spec.model.backbone!r}: {self.cuts.reason}; {kept}.")
        each = [flops / PROBES for flops in forward_flops(backbone, groups, few)]  # of an example
        self.boundaries = [
            Boundary(index=index, nbytes=self.nbytes(index), flops=sum(each[:index])) for index in self.cuts.boundaries
        ]
        self._contents: dict[tuple[object, ...], str] = {}
        self._kept: dict[int, tuple[int, ...]] = {}
        self._say = say
        self._progress = progress
        self._told = False

    @staticmethod
    def of(
        task: Task, *, cache: Path, say: Callable[[str], None], progress: Callable[[], None] = lambda: None
    ) -> "FrozenPrefix | None":
        """Those of a task; None where they are run in each trial, which is said."""
        if task.spec.activations.memory == task.spec.activations.disk == 0:
            return None
        if task.parts.module is not None:
            say("[model] backbone: a LightningModule's own steps want the inputs; its frozen layers run in each trial.")
            return None
        layers = FrozenPrefix(task, cache=cache, say=say, progress=progress)
        return layers if layers.boundaries else None

    def hold(self, backbone: nn.Module) -> bool:
        """Take the weights of a trial's fresh backbone; whether that can be done.

        Those that a study names are the same in every trial; a user's function may make others each time.
        """
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

    def values(self, start: PartialInputs | Tensor | dict[str, Tensor], boundary: int) -> Values:
        """What the frozen groups up to a boundary make of inputs, or of what they were at an earlier one."""
        assert self.stages is not None
        made = self.stages.until(move_data_to_device(start, self.device), boundary)
        self._progress()
        return made

    def kept(self, examples: int) -> tuple[int, ...]:
        """The boundaries at which so many examples, views counted in, are kept."""
        if examples not in self._kept:
            memory, room = self.budget.memory, max(self.budget.memory, self.budget.disk) // SETS
            wanted, kept = (
                choose_boundaries(self.boundaries, examples=examples, room=limit, in_memory=memory)
                for limit in (2**63, room)
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
            f"[activations] memory = {self.budget.memory / GIGABYTE:g}, disk = {self.budget.disk / GIGABYTE:g}: no "
            f"room for all that is worth keeping of {examples} examples (computed again each time: {which}); "
            f"{max(needed / GIGABYTE, 0.01):.2f} GB would hold it."
        )

    def nbytes(self, boundary: int) -> int:
        """Bytes that are kept of an example there."""
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
