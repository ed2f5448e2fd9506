"""The leader's interval where some runs fail to train.

Each run fails with the same chance, and then loses 2 logits of accuracy. A strategy's truth has its failed runs. A
leader was lucky: it has fewer of them than its share. Among two strategies with five runs each, none is seen to fail in
four of ten studies, so nothing tells that any may.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from rich.table import Table as Text
from scipy.special import expit, logit

from search.verdict.statistics import Comparison
from tests.simulation.power import CASES, REPEATS, studies
from tests.simulation.spreads import Scored

FAILED = 0.08
LOST_LOGITS = 2.0
COMPARED = ("6 alike", "3 points", "1.5 points")
COLUMNS = ("leader's", "covered %", "half", "leader +", "observed +", "winner %", "regret", "regret r.")
"""Coverage in percent of the leader's 90 % interval, and of all; half the leader's width in points.

leader +: its reported score minus its truth, in points; observed +: its observed mean minus its truth.
"""


def failing(rng: np.random.Generator, study: Scored) -> Scored:
    """Return the study with some runs failed, and the truth that they make."""
    outcomes, trained = study.outcomes.copy(), study.truth
    kept = expit(logit(trained) - LOST_LOGITS) / trained
    for repeat, strategy in zip(*np.nonzero(rng.random((len(outcomes), len(trained))) < FAILED), strict=True):
        outcomes[repeat, :, strategy] &= rng.random(outcomes.shape[1]) < kept[strategy]
    return replace(study, outcomes=outcomes, truth=trained * (1 - FAILED + FAILED * kept))


def judged(world: str, case: str, *, repeats: int, count: int) -> list[tuple[Scored, Comparison]]:
    """Judge so many studies of which some runs fail."""
    rng = np.random.default_rng(0)
    found = (failing(rng, study) for study in studies(world, CASES[case], repeats=repeats, count=count))
    return [(study, study.judged()) for study in found]


def summary(judged: Sequence[tuple[Scored, Comparison]]) -> dict[str, float]:
    """Return the numbers of `COLUMNS`. The cheapest strategy is the first."""
    truths, found = np.array([study.truth for study, _ in judged]), [one for _, one in judged]
    rows = np.arange(len(found))
    leader, recommended = (rows, [one.leader for one in found]), (rows, [one.is_near.argmax() for one in found])
    low, high, means, scores = (
        np.array([getattr(one, name) for one in found]) for name in ("low", "high", "means", "scores")
    )
    covered, gap = (low <= truths) & (truths <= high), truths.max(axis=1, keepdims=True) - truths
    numbers = (
        100 * covered[leader].mean(), 100 * covered.mean(), 50 * (high - low)[leader].mean(),
        100 * (scores - truths)[leader].mean(), 100 * (means - truths)[leader].mean(),
        100 * np.mean([one.winner is not None for one in found]), 100 * gap[leader].mean(),
        100 * gap[recommended].mean(),
    )  # fmt: skip
    return dict(zip(COLUMNS, map(float, numbers), strict=True))


def report(*, count: int) -> Iterator[Text]:
    """Yield a table by world, repeats and strategies."""
    title = f"{100 * FAILED:g} % of runs lose {LOST_LOGITS:g} logits; {count} studies each"
    text = Text("world", "repeats", "strategies", *COLUMNS, title=title)
    for world, repeats, case in product(("few labels", "many labels"), REPEATS, COMPARED):
        found = summary(judged(world, case, repeats=repeats, count=count))
        text.add_row(world, str(repeats), case, *(f"{number:.2f}" for number in found.values()))
    yield text
