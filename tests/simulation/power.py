"""False winners among alike strategies, and how often a true lead is found, beside the first edition's rule.

Scores have the spreads of real tasks (`spreads.WORLDS`). The first edition drew from the repeats' own
covariance, counted a run's noise on test examples twice, and asked for P(best) of 0.975.
"""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from rich.table import Table as Text

from search.verdict.posterior import _normal
from search.verdict.statistics import probability_best
from search.verdict.variances import example_covariance
from tests.simulation.spreads import DRAWS, MARGIN, WORLDS, Scored, simulate

ALIKE = {"2 alike": (0.0,) * 2, "2 alike, 4 behind": (0.1, 0.07, 0.05, 0.04, 0.0, 0.0), "6 alike": (0.0,) * 6}
LEADS = {"1.5 points": 0.015, "3 points": 0.03}
OTHERS = (0.1, 0.07, 0.05, 0.04)
"""Distances of the others to a leader that has so many points over the next."""
CASES = {**ALIKE, **{name: (*OTHERS, lead, 0.0) for name, lead in LEADS.items()}}
REPEATS = (5, 10)
FIRST_CERTAIN = 0.975


def studies(world: str, gaps: Sequence[float], *, repeats: int, count: int) -> Iterator[Scored]:
    """Yield studies of strategies that are so far behind the best."""
    rng, best = np.random.default_rng([repeats, len(gaps)]), WORLDS[world].accuracy
    for _ in range(count):
        yield simulate(rng, WORLDS[world], [best - gap for gap in gaps], repeats=repeats)


def winners(world: str, case: str, *, repeats: int, count: int) -> tuple[float, float]:
    """Return in how many percent of studies there is a winner, by the product's rule and by the first edition's."""
    found = [
        (study.judged().winner is not None, first_edition(study))
        for study in studies(world, CASES[case], repeats=repeats, count=count)
    ]
    now, before = 100 * np.mean(found, axis=0)
    return float(now), float(before)


def first_edition(study: Scored) -> bool:
    """Check that the first edition would have named a winner by the same runs."""
    rng, scores = np.random.default_rng(0), study.outcomes.mean(axis=1)
    repeats, means = len(scores), scores.mean(axis=0)
    spread = (scores - means) / np.sqrt(repeats * (repeats - 1))
    stretch = np.sqrt((repeats - 1) / rng.chisquare(repeats - 1, size=(DRAWS, 1)))
    samples = means + stretch * (rng.standard_normal((DRAWS, repeats)) @ spread)
    p_best = probability_best(samples + _normal(example_covariance(study.outcomes.mean(axis=0)), DRAWS, rng))
    first, second = np.sort(means)[:-3:-1]
    return bool(first - second > MARGIN and p_best.max() >= FIRST_CERTAIN)


def report(*, count: int) -> Iterator[Text]:
    """Yield percent of studies with a winner: false ones among alike strategies, found ones where one leads."""
    text = Text(
        "world", "repeats", *CASES, title=f"Studies with a winner, % (the first edition's rule); {count} studies each"
    )
    for world, repeats in product(("few labels", "many labels"), REPEATS):
        found = (winners(world, case, repeats=repeats, count=count) for case in CASES)
        text.add_row(world, str(repeats), *(f"{now:.1f} ({before:.1f})" for now, before in found))
    yield text
