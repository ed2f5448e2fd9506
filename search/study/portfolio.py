"""The portfolio: strategies that did well on other tasks, which each size tries early.

As in Auto-sklearn 2.0 (Feurer et al., 2022, arxiv.org/abs/2007.04074) it is chosen greedily, each task weighted alike.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from search.spec.study_spec import StudySpec
from search.study.space import baselines, fitting
from strategies import FreezingStrategy

FILE = Path(__file__).with_name("portfolio.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Relative:
    """A strategy in relative terms, which fits any network and any number of epochs.

    frozen: share of the layer groups that stay frozen; below 1 at least the last one trains, at .99 it alone.
    head_alone: share of the epochs before the first group unfreezes.
    gradual: share of the epochs over which group after group unfreezes; 0 for all at once.
    """

    frozen: float
    head_alone: float = 0.0
    gradual: float = 0.0
    backbone_lr_ratio: float = 1.0
    head_lr: float
    pretrained: bool = True

    def strategy(self, *, num_groups: int, epochs: int) -> FreezingStrategy:
        """Return it for a network of so many groups, trained for so many epochs."""
        if not self.pretrained:
            return FreezingStrategy.from_scratch(head_lr=self.head_lr)
        if self.frozen >= 1:
            return FreezingStrategy.linear_probing(num_groups=num_groups, head_lr=self.head_lr)
        return FreezingStrategy(
            freeze_depth=min(round(self.frozen * num_groups), num_groups - 1),
            unfreeze_epoch=min(round(self.head_alone * epochs), epochs - 1),
            epochs_per_group=max(1, round(self.gradual * epochs / num_groups)) if self.gradual else 0,
            backbone_lr_ratio=self.backbone_lr_ratio,
            head_lr=self.head_lr,
        ).canonical(num_groups, epochs)


def portfolio(spec: StudySpec, *, num_groups: int) -> list[FreezingStrategy]:
    """Return the portfolio as the study's space allows it, without the baselines."""
    found = [one.strategy(num_groups=num_groups, epochs=spec.train.epochs) for one in _stored()]
    usual = baselines(spec, num_groups=num_groups)
    return [one for one in fitting(found, spec, num_groups=num_groups) if one not in usual]


@cache
def _stored() -> tuple[Relative, ...]:
    entries: list[dict[str, Any]] = tomllib.loads(FILE.read_text(encoding="utf-8")).get("strategy", [])
    return tuple(Relative(**entry) for entry in entries)
