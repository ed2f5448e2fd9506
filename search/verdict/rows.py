"""One trial of a study as a plain value: no torch, no optuna."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import isfinite, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.verdict.metric import Metric
from strategies import FreezingStrategy


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """One trial. A field that is not known yet is None or empty.

    extension: how often labels had been added to those that it drew from.
    judged: it is a confirm trial, scored on test examples, and was not part of the search.
    value: the search's validation metric over the last quarter of epochs; of a judged trial its test score.
    curve: (epoch, the validation metric so far) of every epoch.
    ended: when, in UTC.
    warm_started_from: of a judged trial, the size that found its strategy, if it was another one.
    source_trial: of a judged trial, the number of the first exploring trial of its strategy at that size.
    raced_with: of a judged trial, the sizes whose runs inform its race; empty if its size runs alone.
    scores: "val_<metric>" and "test_<metric>" of a judged trial, for the metrics that are defined.
    test_se: the standard error of the study's metric over the test examples.
    test_trivial: the score of the best constant answer to the same test examples, see `search.training.scoring`.
    predictions_file: the name of the file with its predictions of the test set.
    example_scores: (T,), of each test example of its repeat: its share in the metric, see `search.training.scoring`.
    tested: (T,), which examples those are; None if they are all.
    test_groups: (T,), whose each is; None if all are their own.
    """

    number: int
    state: str
    size: int
    repeat: int
    strategy: FreezingStrategy
    family: str
    value: float | None
    epochs: int | None
    seconds: float | None
    trainable_parameters: int | None
    seed: int | None
    curve: tuple[tuple[int, float], ...]
    baseline: bool
    extension: int = 0
    judged: bool = False
    ended: datetime | None = None
    warm_started_from: int | None = None
    source_trial: int | None = None
    raced_with: Sequence[int] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    test_se: float | None = None
    test_examples: int | None = None
    test_trivial: float | None = None
    reason: str | None = None
    predictions_file: str | None = None
    example_scores: NDArray[Any] | None = None
    tested: NDArray[np.int64] | None = None
    test_groups: NDArray[np.int64] | None = None

    @property
    def is_finished(self) -> bool:
        return self.state in ("COMPLETE", "PRUNED", "FAIL")

    @property
    def final_value(self) -> float | None:
        """The value of a complete trial; None for any other: pruned trials never compete."""
        return self.value if self.state == "COMPLETE" else None

    def test_score(self, metric: Metric) -> float:
        """Return the test score; NaN without a finite one, and for trials not complete."""
        score = self.scores.get(metric.attribute, nan)
        return score if self.state == "COMPLETE" and isfinite(score) else nan
