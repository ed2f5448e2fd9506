"""Studies whose race stops candidates early, by labels that were not drawn, before the test set is read.

The product's race scores candidates on validation examples that a repeat did not train on, and that no test has. All
that ran are judged: the finalists by all repeats, the others by those that they have run. A race that reads the test
set is in `coverage`.
"""

from collections.abc import Iterator, Sequence
from functools import cache, reduce
from operator import add

import numpy as np
from rich.table import Table as Text

from tests.simulation.study import Design, Judged, Way, confirm, simulate
from tests.simulation.world import STRATEGIES, Learners, learner, truth

ENTRANTS = 20
DESIGNS: tuple[tuple[Way, int, float], ...] = (
    ("held out", 250, 0.5), ("given", 120, 0.5), ("given", 1000, 0.1), ("given", 1000, 0.5), ("given", 250, 0.9),
)  # fmt: skip
COLUMNS = ("runs", "finalists", "false %", "regret", "regret r.", "leader's", "leader +", "finalists'", "finalists +")
"""Runs of a study, candidates with all repeats; percent of false winners; regret of leader and recommended in points.

leader's, finalists': coverage of their 90 % intervals; +: reported score minus truth, in points.
"""
CLOSED = ("1", "2", "3-4")
"""By the repeats of a closed candidate: coverage of its interval, and its score's error."""


@cache
def entrants(*, alike: bool) -> Learners:
    """Return the candidates: some apart as in `world`, or all as good as another."""
    rng = np.random.default_rng(0)
    angles, penalties = rng.uniform(30, 70, size=ENTRANTS), 10 ** rng.uniform(0.5, 2.2, size=ENTRANTS)
    if alike:
        angles, penalties = np.full(ENTRANTS, 50.0), np.full(ENTRANTS, 40.0)
    own = [
        learner(penalty=float(penalty), angle=float(angle), turn=200 + turn)
        for turn, (penalty, angle) in enumerate(zip(penalties, angles, strict=True))
    ]
    return reduce(add, own if alike else [*own[len(STRATEGIES) :], STRATEGIES])


def studies(design: Design, *, alike: bool, count: int) -> list[Judged]:
    """Simulate, race and judge so many studies."""
    rng = np.random.default_rng([design.labels, design.size, design.repeats, alike])
    learners = entrants(alike=alike)
    known = truth(learners, design.size)
    return [confirm(simulate(rng, design, learners, known), seed=seed, by_tests=False) for seed in range(count)]


def summary(raced: Sequence[Judged]) -> dict[str, float]:
    """Return the numbers of `COLUMNS`, then coverage and error by `CLOSED`."""
    known, low, high, scores = (
        np.array([one.study.truth for one in raced]),
        *(np.array([getattr(one.found, name) for one in raced]) for name in ("low", "high", "scores")),
    )
    lengths = np.array([one.lengths for one in raced])
    rows, most = np.arange(len(raced)), raced[0].study.design.repeats
    leader, cheap = (rows, [one.leader for one in raced]), (rows, [one.recommended for one in raced])
    covered, error, gap = (low <= known) & (known <= high), scores - known, known.max(axis=1, keepdims=True) - known
    winners = [one.found.winner for one in raced]
    false = [winner is not None and gap[row, winner] > 0 for row, winner in enumerate(winners)]
    finalist = lengths == most
    numbers = (
        lengths.sum(axis=1).mean(), finalist.sum(axis=1).mean(), 100 * np.mean(false), 100 * gap[leader].mean(),
        100 * gap[cheap].mean(), 100 * covered[leader].mean(), 100 * error[leader].mean(),
        100 * covered[finalist].mean(), 100 * error[finalist].mean(),
    )  # fmt: skip
    found = dict(zip(COLUMNS, map(float, numbers), strict=True))
    for name, least, last in zip(CLOSED, (1, 2, 3), (1, 2, 4), strict=True):
        part = (lengths >= least) & (lengths <= last)
        found[f"{name}'s"] = 100 * float(covered[part].mean()) if part.any() else np.nan
        found[f"{name} +"] = 100 * float(error[part].mean()) if part.any() else np.nan
    return found


def report(*, count: int) -> Iterator[Text]:
    """Yield a table for candidates that differ, and one for those that are alike."""
    for alike in (False, True):
        text: Text | None = None
        for (way, labels, share), repeats in ((one, repeats) for one in DESIGNS for repeats in (5, 10)):
            design = Design(way=way, labels=labels, share=share, repeats=repeats)
            found = summary(studies(design, alike=alike, count=count))
            title = f"{ENTRANTS} candidates{' alike' if alike else ''}; {count} studies each"
            text = text or Text("way", "N", "n", "repeats", *found, title=title)
            text.add_row(way, str(labels), str(design.size), str(repeats), *(f"{one:.2f}" for one in found.values()))
        if text is not None:
            yield text
