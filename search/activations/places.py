"""The places of a program between its layer groups, and what is live there."""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from search.activations import rnn_layers
from search.activations.partial_forward import Homes
from search.activations.tracing import Program
from search.data.examples import Tensors, index_inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A step whose result is kept at a cut.

    axis: along which its examples lie. length: of a packed sequence, the step that knows its length when padded.
    nbytes: of all examples that it was tried on.
    """

    step: int
    axis: int = 0
    length: int | None = None
    nbytes: int

    @property
    def steps(self) -> set[int]:
        return {self.step} if self.length is None else {self.step, self.length}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A place in a program, by its steps.

    before: those that have run there. kept: those of them whose results go on. counts: those whose result is the
    number of examples. again: those that run again, as what they make can't be kept (a shape, a table that all
    examples share); no module is among them.
    """

    before: frozenset[int]
    kept: tuple[Kept, ...]
    counts: frozenset[int]
    again: frozenset[int]
    needs_inputs: bool

    @property
    def nbytes(self) -> int:
        return sum(kept.nbytes for kept in self.kept)


def cuts(programs: Sequence[Program], backbone: nn.Module, homes: Homes, examples: Tensors) -> dict[int, Cut]:
    """By boundary, the cut with the fewest bytes, the last of equals; none where groups run in another order.

    programs: by the number of groups that are frozen while it trains; the last, with all of them, in evaluation.
    Raises whatever its code raises on one example.
    """
    places = _Places(programs, backbone, homes, examples)
    found: dict[int, Cut] = {}
    for boundary in range(1, len(programs) - 1):
        tried = [places.cut(boundary, before) for before in places.behind(boundary)]
        if possible := [cut for cut in reversed(tried) if cut is not None]:
            found[boundary] = min(possible, key=lambda cut: cut.nbytes)
    return found


class _Places:
    """A program, with what it computes on several examples beside what on one."""

    def __init__(self, programs: Sequence[Program], backbone: nn.Module, homes: Homes, examples: Tensors) -> None:
        self.programs = programs
        self.program = programs[-1]
        steps = range(len(self.program.nodes))
        parts = self.program.parts(backbone)
        self.homes = [homes.of(self.program.part(step, parts)) for step in steps]
        self.texts = [program.text for program in programs]
        self.several: dict[int, Any] = {0: examples}
        self.one: dict[int, Any] = {0: index_inputs(examples, torch.tensor([0]))}
        with torch.no_grad():
            for results in (self.several, self.one):
                self.program.run(parts, [(step, ()) for step in steps if self.program.runs(step)], results)
        self.keepable = {step: kept for step in self.several if (kept := self._keep(step))}

    def behind(self, boundary: int) -> list[frozenset[int]]:
        """The places behind all that the groups before a boundary do, by all steps that have run there.

        Up to there, training with those groups frozen and evaluation must do the same.
        """
        alike = zip(*self.texts[boundary:], strict=False)
        common = next((step for step, lines in enumerate(alike) if len(set(lines)) > 1), len(self.homes) - 1)
        must = {step for step, location in enumerate(self.homes) if location and min(location) < boundary}
        late: set[int] = set()
        for step, location in enumerate(self.homes):
            if max(location, default=-1) >= boundary or late & self.program.sources(step):
                late.add(step)
        free = [step for step in range(common) if step not in late]
        if not any(boundary - 1 in self.homes[step] for step in must):
            return []
        return [frozenset(step for step in free if step <= last) for last in free if last >= max(must)]

    def cut(self, boundary: int, before: frozenset[int]) -> Cut | None:
        """The cut there; None where what goes on can neither be kept nor be made again."""
        wanted = [
            source
            for program in dict.fromkeys(self.programs[boundary:])
            for step in range(len(program.nodes))
            if step not in before
            for source in program.sources(step) & before
        ]
        kept, counts, again = set[int](), set[int](), set[int]()
        while wanted:
            step = wanted.pop()
            node = self.program.nodes[step]
            if step in kept | counts | again:
                continue
            if self._is_count(step):
                counts.add(step)
            elif step in self.keepable:
                kept.add(step)
            elif node.op == "call_module":
                return None
            else:
                again.add(step)
                wanted.extend(self.program.sources(step))
        if not kept:
            return None
        return Cut(
            before=before,
            kept=tuple(self.keepable[step] for step in sorted(kept)),
            counts=frozenset(counts),
            again=frozenset(again),
            needs_inputs=0 in again,
        )

    def _is_count(self, step: int) -> bool:
        several, one = self.several[step], self.one[step]
        return type(several) is int and several > one == 1

    def _keep(self, step: int) -> Kept | None:
        """How a step's result is kept: if it has one axis of examples, and is no input, which is there anyway."""
        node, several, one = self.program.nodes[step], self.several[step], self.one[step]
        if step == 0 or (node.target is operator.getitem and node.args[0] is self.program.nodes[0]):
            return None
        if isinstance(several, PackedSequence):
            if (known := rnn_layers.padded_length(node)) is None:
                return None
            length = self.program.index[known]
            rows = int(several.batch_sizes[0]) * self.several[length]
            nbytes = rows * math.prod(several.data.shape[1:]) * several.data.itemsize
            return Kept(step=step, length=length, nbytes=nbytes)
        if not isinstance(several, Tensor) or several.ndim != one.ndim:
            return None
        axes = [axis for axis in range(several.ndim) if several.size(axis) != one.size(axis)]
        if len(axes) != 1 or one.size(axes[0]) != 1:
            return None
        return Kept(step=step, axis=axes[0], nbytes=several.nbytes)
