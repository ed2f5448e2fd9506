"""The families that win on the replay table, and the directions that the literature reports."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.table import Table as Text

from strategies import Family, FreezingStrategy
from tests.replay.table import Table

Chosen = Callable[[FreezingStrategy, Family], bool]


def best(table: Table, chosen: Chosen) -> NDArray[np.float64]:
    """Scores of the best of the chosen strategies, (sizes, repeats), free of the winner's curse.

    For each half of the repeats the strategy is the one with the highest mean score on the other half.
    """
    among = [
        place for place, strategy in enumerate(table.strategies) if chosen(strategy, strategy.family(table.num_groups))
    ]
    score = table.score[among]
    result = np.empty(score.shape[1:])
    for half in (0, 1):
        ours, theirs = np.arange(table.repeats) % 2 == half, np.arange(table.repeats) % 2 != half
        leader = score[:, :, theirs].mean(axis=2).argmax(axis=0)
        result[:, ours] = score[leader, np.arange(len(leader))][:, ours]
    return result


def of_family(family: Family) -> Chosen:
    return lambda strategy, own: own == family and strategy.parameters != "bias"


def biases(strategy: FreezingStrategy, family: Family) -> bool:
    return strategy.parameters == "bias"


def families(table: Table) -> Text:
    """Each family's best at each size, in per cent, and the leader's margin over the next with its standard error."""
    title = f"{table.task}: test accuracy after the last epoch by labels that train, {table.repeats} repeats"
    text = Text("family", *map(str, table.trained), title=title)
    scores = {str(family): best(table, of_family(family)) for family in Family if family in _families(table)}
    if any(strategy.parameters == "bias" for strategy in table.strategies):
        scores["biases alone"] = best(table, biases)
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
    """Points between paired scores (repeats,), with the standard error of their mean."""
    gaps = 100 * (ours - theirs)
    return float(gaps.mean()), float(gaps.std(ddof=1) / np.sqrt(len(gaps))) if len(gaps) > 1 else np.nan


def best_depth(table: Table) -> NDArray[np.float64]:
    """(sizes, repeats): the freeze depth, over the number of groups, of the strategy that scores best on a repeat."""
    space = len(table.strategies) - len(table.grid.extras)
    pretrained = [place for place in range(space) if table.strategies[place].pretrained]
    depth = np.array([table.strategies[place].freeze_depth for place in pretrained])
    return depth[table.score[pretrained].argmax(axis=0)] / table.num_groups


def directions(tables: Sequence[Table]) -> Text:
    """Compare published directions with paired differences in points at the smallest and largest size."""
    text = Text("published", "task", "smallest size", "largest size", "shows")
    for table in tables:
        for claim, ours, theirs, shows in _claims(table):
            small, large = difference(ours[0], theirs[0]), difference(ours[-1], theirs[-1])
            cells = (f"{gap:+.1f} ({error:.1f})" for gap, error in (small, large))
            text.add_row(claim, table.task, *cells, "yes" if shows(small, large) else "no")
        depths = best_depth(table).mean(axis=1)
        cells = (f"{depth:.2f} of the groups" for depth in (depths[0], depths[-1]))
        shown = "yes" if depths[0] > depths[-1] else "no"
        text.add_row("the best freeze depth falls with size (Soekhoe 2016)", table.task, *cells, shown)
        text.add_section()
    asked = "can't be asked: what freezes here are leading groups"
    text.add_row("shifted inputs want the first block trained, shifted labels the last (Lee 2023)", "", "", "", asked)
    return text


Gap = tuple[float, float]
"""Points, and their standard error."""
Claim = tuple[str, NDArray[np.float64], NDArray[np.float64], Callable[[Gap, Gap], bool]]
"""A sentence, whose scores (sizes, repeats) it compares, and what must hold at the smallest and the largest size."""


def _claims(table: Table) -> Iterator[Claim]:
    score = {family: best(table, of_family(family)) for family in _families(table)}
    full = score[Family.FULL_FINE_TUNING]

    def crosses(small: Gap, large: Gap) -> bool:
        return small[0] > 0 > large[0]

    yield (
        "probing beats full fine-tuning at few labels, loses at many (Kornblith 2019, Kim 2022)",
        score[Family.LINEAR_PROBING],
        full,
        crosses,
    )
    yield (
        "LP-FT beats full fine-tuning (Kumar 2022: by a point)",
        score[Family.FREEZE_THEN_UNFREEZE],
        full,
        lambda small, large: any(gap > 2 * error for gap, error in (small, large)),
    )
    if any(family == Family.GRADUAL_UNFREEZING for family in _families(table)):
        yield (
            "gradual unfreezing helps, most at few labels (ULMFiT 2018)",
            score[Family.GRADUAL_UNFREEZING],
            full,
            lambda small, large: small[0] > max(0, large[0]),
        )
    if any(strategy.parameters == "bias" for strategy in table.strategies):
        yield "biases alone win at few labels, lose at many (BitFit 2022)", best(table, biases), full, crosses
    yield (
        "full fine-tuning, well tuned, is within a point of the best (FewTrans 2026)",
        full,
        best(table, lambda strategy, family: strategy.parameters != "bias"),
        lambda small, large: min(small[0], large[0]) >= -1,
    )


def _families(table: Table) -> set[Family]:
    return {strategy.family(table.num_groups) for strategy in table.strategies}


def report(tables: Sequence[Table], *, studies: int) -> Iterator[Text]:
    """Yield the families of each task, then the published directions."""
    yield from map(families, tables)
    yield directions(tables)
