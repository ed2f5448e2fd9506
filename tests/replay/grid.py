"""The strategies that the replay table holds: a full grid of levels, and the nearest of them to any strategy."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import log
from pathlib import Path

from search.spec.study_spec import StudySpec
from strategies import FreezingStrategy

HERE = Path(__file__).parent
SMALL = ("digits", "fashion", "vowels")
"""The tasks whose networks are small enough for a full grid and many repeats."""
TASKS = (*SMALL, "emoji", "efficientnet", "minilm", "mobilenet", "efficientnet-emoji", "minilm-tweets")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Levels of each field. `depths` are those short of linear probing; `waits` are values of `epochs_per_group`.

    unfreeze_step: unfreeze epochs are its multiples, `unfreeze_steps` of them.
    crossed: all levels are combined; if not, ratios below 1 and gradual unfreezing come at unfreeze epoch 0 alone,
        and not with each other.
    """

    num_groups: int
    epochs: int
    depths: tuple[int, ...]
    unfreeze_step: int
    unfreeze_steps: int
    waits: tuple[int, ...]
    ratios: tuple[float, ...]
    rates: tuple[float, ...]
    probing: tuple[float, ...]
    scratch: tuple[float, ...]
    extras: tuple[FreezingStrategy, ...] = ()
    crossed: bool = True

    @classmethod
    def of(cls, task: str, num_groups: int) -> "Grid":
        """Make the grid of one of `TASKS`, for a backbone of so many layer groups."""
        if task in SMALL:
            rates, ratios = (1e-3, 4e-3, 1.6e-2), (0.1, 1.0)
            biases = tuple(
                FreezingStrategy(freeze_depth=0, head_lr=rate, backbone_lr_ratio=ratio, parameters="bias")
                for rate, ratio in product(rates, ratios)
            )
            return cls(
                num_groups=num_groups,
                epochs=20,
                depths=tuple(range(num_groups)),
                unfreeze_step=8 if task == "vowels" else 6,
                unfreeze_steps=2 if task == "vowels" else 3,
                waits=(0, 2),
                ratios=ratios,
                rates=rates,
                probing=rates,
                scratch=rates,
                extras=biases,
            )
        return cls(
            num_groups=num_groups,
            epochs=8,
            depths=(0, num_groups // 2, num_groups - 1),
            unfreeze_step=3,
            unfreeze_steps=2,
            waits=(0, 1),
            crossed=False,
            ratios=(0.1, 1.0),
            rates=(1e-3, 4e-3),
            probing=(1e-3, 4e-3, 1.6e-2),
            scratch=(1e-3,),
        )

    @property
    def unfreezes(self) -> tuple[int, ...]:
        return tuple(step * self.unfreeze_step for step in range(self.unfreeze_steps))

    def strategies(self) -> list[FreezingStrategy]:
        """All of them, canonical and each once; those of the search's own space first, `extras` last."""
        found = [FreezingStrategy(freeze_depth=self.num_groups, head_lr=rate) for rate in self.probing]
        for depth, wait, unfreeze, ratio, rate in product(
            self.depths, self.waits, self.unfreezes, self.ratios, self.rates
        ):
            strategy = FreezingStrategy(
                freeze_depth=depth,
                unfreeze_epoch=unfreeze,
                epochs_per_group=wait,
                backbone_lr_ratio=ratio,
                head_lr=rate,
            )
            if strategy == self._held(strategy) and (wait == 0 or self.num_groups - depth > 1):
                found.append(strategy)
        found += [FreezingStrategy.from_scratch(head_lr=rate) for rate in self.scratch]
        found += self.extras
        canonical = [strategy.canonical(self.num_groups, self.epochs) for strategy in found]
        return [*dict.fromkeys(canonical)]

    def nearest(self, strategy: FreezingStrategy) -> FreezingStrategy:
        """Return the strategy of the grid at the nearest levels, rates by their ratio."""
        if not strategy.pretrained:
            return FreezingStrategy.from_scratch(head_lr=_nearest(self.scratch, strategy.head_lr))
        if strategy.freeze_depth >= self.num_groups:
            return FreezingStrategy(freeze_depth=self.num_groups, head_lr=_nearest(self.probing, strategy.head_lr))
        gap = {depth: abs(depth - strategy.freeze_depth) for depth in self.depths}
        moved = replace(
            strategy,
            freeze_depth=min(gap, key=lambda depth: (gap[depth], depth)),
            unfreeze_epoch=min(self.unfreezes, key=lambda epoch: abs(epoch - strategy.unfreeze_epoch)),
            epochs_per_group=min(self.waits, key=lambda wait: (abs(wait - strategy.epochs_per_group), -wait)),
            backbone_lr_ratio=_nearest(self.ratios, strategy.backbone_lr_ratio),
            layer_lr_decay=1.0,
            head_lr=_nearest(self.rates, strategy.head_lr),
        )
        return self._held(moved).canonical(self.num_groups, self.epochs)

    def _held(self, strategy: FreezingStrategy) -> FreezingStrategy:
        """Return the nearest strategy of these levels that the grid holds."""
        if self.crossed:
            return strategy
        if strategy.epochs_per_group:
            return replace(strategy, unfreeze_epoch=0, backbone_lr_ratio=1.0)
        return replace(strategy, backbone_lr_ratio=1.0) if strategy.unfreeze_epoch else strategy


def spec_of(task: str) -> StudySpec:
    """Read the study file of one of `TASKS`."""
    return StudySpec.from_file(HERE / f"{task}.toml")


def stops(epochs: int) -> tuple[int, ...]:
    """Return the last epochs of a quarter, a half, three quarters and all of a run."""
    return tuple(-(-epochs * quarter // 4) - 1 for quarter in (1, 2, 3, 4))


def _nearest(levels: Sequence[float], value: float) -> float:
    return min(levels, key=lambda level: abs(log(level) - log(value)))
