"""Which family wins where, by the replay table, and what the literature says of it."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.table import Table as Text

from strategies import Family, FreezingStrategy
from tests.replay.table import Table

Chosen = Callable[[FreezingStrategy, Family], bool]


def best(table: Table, chosen: Chosen) -> NDArray[np.float64]:
    """(sizes, chains): what the best of the chosen strategies scores, without the luck of having been chosen.

    For each half of the chains the strategy is the one with the highest mean score on the other half.
    """
    among = [
        place for place, strategy in enumerate(table.strategies) if chosen(strategy, strategy.family(table.num_groups))
    ]
    score = table.score[among]
    result = np.empty(score.shape[1:])
    for half in (0, 1):
        ours, theirs = np.arange(table.chains) % 2 == half, np.arange(table.chains) % 2 != half
        leader = score[:, :, theirs].mean(axis=2).argmax(axis=0)
        result[:, ours] = score[leader, np.arange(len(leader))][:, ours]
    return result


def of_family(family: Family) -> Chosen:
    return lambda strategy, own: own == family and strategy.parameters == "all"


def biases(strategy: FreezingStrategy, family: Family) -> bool:
    return strategy.parameters == "bias"


def families(table: Table) -> Text:
    """Each family's best at each size, in per cent, and the leader's margin over the next with its standard error."""
    text = Text("family", *map(str, table.sizes), title=f"{table.task}: test accuracy, {table.chains} chains")
    scores = {str(family): best(table, of_family(family)) for family in Family}
    scores["bias alone"] = (
        best(table, biases)
        if any(s.parameters == "bias" for s in table.strategies)
        else np.full_like(scores[Family.LINEAR_PROBING], np.nan)
    )
    scores = {name: score for name, score in scores.items() if np.isfinite(score).all()}
    leaders = [max(scores, key=lambda name: scores[name][size].mean()) for size in range(len(table.sizes))]
    for name, score in scores.items():
        cells = (f"{100 * row.mean():.1f}" for row in score)
        text.add_row(name, *(f"[bold]{cell}[/]" if name == leaders[i] else cell for i, cell in enumerate(cells)))
    text.add_section()
    gaps = []
    for size, leader in enumerate(leaders):
        others = {name: score[size].mean() for name, score in scores.items() if name != leader}
        gap, error = difference(scores[leader][size], scores[max(others, key=lambda name: others[name])][size])
        gaps.append(f"{gap:+.1f} ({error:.1f})")
    text.add_row("leader over the next", *gaps)
    return text


def difference(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> tuple[float, float]:
    """Points between paired scores (chains,), with the standard error of their mean."""
    gaps = 100 * (ours - theirs)
    return float(gaps.mean()), float(gaps.std(ddof=1) / np.sqrt(len(gaps))) if len(gaps) > 1 else np.nan


def best_depth(table: Table) -> NDArray[np.float64]:
    """(sizes, chains): the freeze depth, over the number of groups, of the strategy that scores best on a chain."""
    space = len(table.strategies) - len(table.grid.extras)
    pretrained = [place for place in range(space) if table.strategies[place].pretrained]
    depth = np.array([table.strategies[place].freeze_depth for place in pretrained])
    return depth[table.score[pretrained].argmax(axis=0)] / table.num_groups


def directions(tables: Sequence[Table]) -> Text:
    """What has been published, and whether it shows: paired differences in points at the smallest and largest size."""
    text = Text("published", "task", "smallest size", "largest size", "shows")
    for table in tables:
        score = {family: best(table, of_family(family)) for family in Family}
        full, probing = score[Family.FULL_FINE_TUNING], score[Family.LINEAR_PROBING]
        everything = best(table, lambda strategy, family: strategy.parameters == "all")

        def row(
            claim: str,
            ours: NDArray[np.float64],
            theirs: NDArray[np.float64],
            shows: Callable[..., bool],
            task: str = table.task,
        ) -> None:
            small, large = difference(ours[0], theirs[0]), difference(ours[-1], theirs[-1])
            cells = (f"{gap:+.1f} ({error:.1f})" for gap, error in (small, large))
            text.add_row(claim, task, *cells, "yes" if shows(small, large) else "no")

        row("probing beats full fine-tuning at few labels, loses at many (Kornblith 2019, Kim 2022)",
            probing, full, lambda small, large: small[0] > 0 > large[0])  # fmt: skip
        row("LP-FT beats full fine-tuning by about a point (Kumar 2022)", score[Family.FREEZE_THEN_UNFREEZE], full,
            lambda small, large: small[0] > 2 * small[1] or large[0] > 2 * large[1])  # fmt: skip
        row("gradual unfreezing helps, most at few labels (ULMFiT 2018)", score[Family.GRADUAL_UNFREEZING], full,
            lambda small, large: small[0] > 0 and small[0] > large[0])  # fmt: skip
        row("full fine-tuning, well tuned, is hard to beat: within a point (FewTrans 2026)", full, everything,
            lambda small, large: small[0] >= -1 and large[0] >= -1)  # fmt: skip
        if any(map(lambda strategy: strategy.parameters == "bias", table.strategies)):
            row("biases alone win at few labels, lose at many (BitFit 2022)", best(table, biases), full,
                lambda small, large: small[0] > 0 > large[0])  # fmt: skip
        depth = best_depth(table).mean(axis=1)
        text.add_row("the best freeze depth falls with size (Soekhoe 2016)", table.task, f"{depth[0]:.2f} of the groups",
                     f"{depth[-1]:.2f}", "yes" if depth[0] > depth[-1] else "no")  # fmt: skip
        text.add_section()
    text.add_row("train the first block for shifted inputs, the last for shifted labels (Lee 2023)", "none", "", "",
                 "can't be asked: freezing here is of leading groups")  # fmt: skip
    return text
