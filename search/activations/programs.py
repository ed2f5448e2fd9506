"""A backbone that runs as its traced program does, in parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from search.activations.partial_forward import Homes
from search.activations.places import Cut, Kept, cuts
from search.activations.tracing import Program, trace
from search.data.examples import Tensors
from strategies import LayerGroup

Modes = tuple[bool, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Traced:
    """A backbone's programs, and its cuts by boundary. Holds names, none of its tensors.

    programs: by the modes of the `containers`, the modules that were entered, whose own code may ask for it. Where it
    never does, there is one program.
    """

    programs: Mapping[Modes, Program]
    containers: tuple[str, ...]
    cuts: Mapping[int, Cut]

    @classmethod
    def of(cls, backbone: nn.Module, groups: Sequence[LayerGroup], examples: Tensors) -> "Traced":
        """Trace a backbone, which may be changed, in evaluation and as it trains while its first groups are frozen.

        Raises whatever its code raises on symbols, or on one example.
        """
        homes = Homes(groups)
        entered = {name: homes.of(m) for name, m in backbone.named_modules() if homes.are_several(m)}
        modes = [tuple(max(held) >= frozen for held in entered.values()) for frozen in range(len(groups) + 1)]
        programs: dict[Modes, Program] = {}
        known: dict[tuple[str, ...], Program] = {}
        for mode in dict.fromkeys(modes):
            for name, training in zip(entered, mode, strict=True):
                backbone.get_submodule(name).training = training
            program = trace(backbone, homes, examples)
            programs[mode] = known.setdefault(tuple(program.text), program)
        found = cuts([programs[mode] for mode in modes], backbone.eval(), homes, examples)
        if len(known) == 1:
            return cls(programs={(): program}, containers=(), cuts=found)
        return cls(programs=programs, containers=tuple(entered), cuts=found)

    @property
    def is_one_program(self) -> bool:
        return not self.containers

    def needs_inputs(self, boundary: int) -> bool:
        return self.cuts[boundary].needs_inputs

    def on(self, backbone: nn.Module) -> "Running":
        return Running(self, backbone)


class Running:
    """A backbone that runs from one boundary to another: 0 is its inputs, None its features."""

    def __init__(self, traced: Traced, backbone: nn.Module) -> None:
        self.traced = traced
        self.backbone = backbone
        self.parts = {name: part for p in traced.programs.values() for name, part in p.parts(backbone).items()}
        self._plans: dict[tuple[Modes, int, int | None], list[tuple[int, list[int]]]] = {}

    def __call__(
        self, start: int, values: tuple[Tensor, ...], inputs: Tensors | None, stop: int | None
    ) -> tuple[Tensor, ...]:
        modes = tuple(self.backbone.get_submodule(name).training for name in self.traced.containers)
        program = self.traced.programs[modes]
        end, *_ = program.sources(len(program.nodes) - 1)
        kept = (Kept(step=end, nbytes=0),) if stop is None else self.traced.cuts[stop].kept
        if (plan := (modes, start, stop)) not in self._plans:
            self._plans[plan] = self._plan(program, start, stop, {step for one in kept for step in one.steps})
        results: dict[int, Any] = {0: inputs}
        if start:
            _restore(self.traced.cuts[start], values, results)
        program.run(self.parts, self._plans[plan], results)
        return tuple(value for one in kept for value in _taken(one, results))

    def _plan(self, program: Program, start: int, stop: int | None, wanted: set[int]) -> list[tuple[int, list[int]]]:
        """The steps between, each with those whose results nobody wants after it."""
        ran, again = frozenset[int](), frozenset[int]()
        if start:
            ran, again = self.traced.cuts[start].before, self.traced.cuts[start].again
        within = range(len(program.nodes)) if stop is None else self.traced.cuts[stop].before
        steps = sorted({step for step in {*within} - ran | again if program.runs(step)})
        last = {source: step for step in steps for source in (step, *program.sources(step))}
        dead: dict[int, list[int]] = {step: [] for step in steps}
        for source, step in last.items():
            if source not in wanted:
                dead[step].append(source)
        return [*dead.items()]


def _restore(cut: Cut, values: tuple[Tensor, ...], results: dict[int, Any]) -> None:
    rest = iter(values)
    for kept, value in zip(cut.kept, rest, strict=False):
        if kept.length is None:
            results[kept.step] = value.movedim(0, kept.axis)
        else:
            results[kept.length], lengths = value.size(1), next(rest).cpu()
            results[kept.step] = pack_padded_sequence(value, lengths, batch_first=True, enforce_sorted=False)
    results.update(dict.fromkeys(cut.counts, len(values[0])))


def _taken(kept: Kept, results: Mapping[int, Any]) -> tuple[Tensor, ...]:
    value = results[kept.step]
    if kept.length is not None:
        return pad_packed_sequence(value, batch_first=True, total_length=results[kept.length])
    return (value.movedim(kept.axis, 0),)
