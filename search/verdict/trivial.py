"""The trivial predictor, one answer to every example: a winner has to beat it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from search.verdict.metric import Metric
from search.verdict.rows import Row

MOST_FREQUENT, CHANCE, FREQUENCIES, MEAN, MEDIAN = (
    "guessing the most frequent class",
    "chance",
    "guessing by the classes' frequencies",
    "guessing the mean",
    "guessing the median",
)
GUESSES = {
    ("accuracy", "classification"): MOST_FREQUENT,
    ("f1", "classification"): MOST_FREQUENT,
    ("loss", "classification"): FREQUENCIES,
    ("mae", "regression"): MEDIAN,
}
"""The best constant answer, by metric and kind of task; of other metrics see `guess`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trivial:
    """The best constant answer to the test examples.

    guess: its name in sentences.
    scores: of the repeats, in the metric's own unit.
    """

    guess: str
    scores: tuple[float, ...]
    metric: Metric

    @property
    def score(self) -> float:
        """The mean over repeats."""
        return float(np.mean(self.scores))

    @classmethod
    def of(cls, rows: Sequence[Row], *, metric: Metric, kind: str) -> "Trivial | None":
        """Return that of these judged trials, one a repeat; None where it is not stored."""
        scores = [row.test_trivial for row in rows]
        known = [score for score in scores if score is not None and isfinite(score)]
        if not known or len(known) < len(scores):
            return None
        return cls(guess=guess(metric, kind), scores=tuple(known), metric=metric)

    def is_below(self, score: float) -> bool:
        """Check that a score is better."""
        return self.metric.sign * (score - self.score) > 0

    @property
    def text(self) -> str:
        """Its name and its score: "guessing the most frequent class (43.0 %)"."""
        return f"{self.guess} ({self.metric.with_unit(self.score)})"


def guess(metric: Metric, kind: str) -> str:
    """Return the name of the best constant answer by a metric."""
    return GUESSES.get((metric.name, kind), MEAN if kind == "regression" else CHANCE)
