"""Intervals and verdicts of simulated studies against the truth, beside an oracle's."""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from rich.table import Table as Text

from tests.simulation.spreads import MARGIN
from tests.simulation.study import WAYS, Design, Judged, confirm, simulate
from tests.simulation.world import STRATEGIES, truth

LABELS = (80, 120, 250, 1000)
SHARES = (0.1, 0.5, 0.9, 1.0)
NORMAL_90 = 1.645
COLUMNS = (
    "leader's", "recommended's", "width", "width r.", "false %", "winner %", "regret", "regret r.", "leader +",
    "P near", "near %", "loss", "+-",
)  # fmt: skip
"""Coverage in percent of the leader's and of the recommended's 90 % interval; their widths in units of the oracle's.

false, winner: studies with a winner that is not within the margin of the truly best, and with any.
regret: points that the leader (the recommended) is truly worse than the best.
leader +: its reported score minus its truth.
P near, near: the leader's mean P(within the margin), and how often it is. loss: its mean expected loss.
+-: half of the oracle's interval, in points: it knows the true variance of the mean over the repeats.
"""


def designs(repeats: int) -> Iterator[Design]:
    """Yield each way, number of labels and share. Cross-validation can't train on 0.9 of all."""
    for way, labels, share in product(WAYS, LABELS, SHARES):
        if way != "crossed" or share != 0.9:
            yield Design(way=way, labels=labels, share=share, repeats=repeats)


def studies(design: Design, count: int, *, seed: int = 0) -> list[Judged]:
    """Simulate and judge so many studies of one design."""
    rng = np.random.default_rng([seed, design.labels, design.size, design.repeats])
    known = truth(STRATEGIES, design.size)
    return [confirm(simulate(rng, design, STRATEGIES, known), seed=number) for number in range(count)]


def summary(judged: Sequence[Judged]) -> dict[str, float]:
    """Return the numbers of `COLUMNS`."""
    known = np.array([one.study.truth for one in judged])
    oracle = NORMAL_90 * (np.array([one.study.plain for one in judged]) - known).std(axis=0)
    low, high, scores, near, loss = (
        np.array([getattr(one.found, name) for one in judged])
        for name in ("low", "high", "scores", "p_within_margin", "expected_loss")
    )
    rows = np.arange(len(judged))
    leader, cheap = (rows, [one.leader for one in judged]), (rows, [one.recommended for one in judged])
    covered, width = (low <= known) & (known <= high), (high - low) / 2 / oracle
    gap = known.max(axis=1, keepdims=True) - known
    winners = [one.found.winner for one in judged]
    false = [winner is not None and gap[row, winner] > MARGIN for row, winner in enumerate(winners)]
    numbers = (
        100 * covered[leader].mean(), 100 * covered[cheap].mean(), width[leader].mean(), width[cheap].mean(),
        100 * np.mean(false), 100 * np.mean([winner is not None for winner in winners]),
        100 * gap[leader].mean(), 100 * gap[cheap].mean(), 100 * (scores - known)[leader].mean(),
        100 * near[leader].mean(), 100 * (gap[leader] <= MARGIN).mean(), 100 * loss[leader].mean(),
        100 * oracle.mean(),
    )  # fmt: skip
    return dict(zip(COLUMNS, map(float, numbers), strict=True))


def report(*, count: int) -> Iterator[Text]:
    """Yield a table for 5 and for 10 repeats."""
    for repeats in (5, 10):
        text = Text("way", "N", "n", *COLUMNS, title=f"{count} studies each, {repeats} repeats")
        for design in designs(repeats):
            cells = (
                f"{number:.2f}" if abs(number) < 10 else f"{number:.1f}"
                for number in summary(studies(design, count)).values()
            )
            text.add_row(design.way, str(design.labels), str(design.size), *cells)
        yield text
