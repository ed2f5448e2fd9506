"""One trial of a study as a plain value: no torch, no optuna."""

from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

from numpy.typing import NDArray

from search.verdict.metric import Metric
from strategies import FreezingStrategy


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """One trial. A field that is not known yet is None or empty.

    value: the validation metric at the trial's best epoch.
    curve: (epoch, validation metric) of every epoch.
    warm_started_from: the smaller size whose best trial of this family had the strategy, if it was taken from there.
    source_trial: of a confirm trial, the number of the exploring trial whose strategy it re-runs.
    test_se: the standard error of `test_mse` over the test examples.
    predictions_file: the name of the file with its predictions of the test set.
    example_scores: (N,), of each test example: is it correct, or its squared error.
    """

    number: int
    state: str
    size: int
    repeat: int
    strategy: FreezingStrategy
    family: str
    value: float | None
    best_epoch: int | None
    epochs: int | None
    seconds: float | None
    trainable_parameters: int | None
    seed: int | None
    curve: tuple[tuple[int, float], ...]
    baseline: bool
    warm_started_from: int | None = None
    source_trial: int | None = None
    test_accuracy: float | None = None
    test_loss: float | None = None
    test_macro_f1: float | None = None
    test_auroc: float | None = None
    test_mse: float | None = None
    test_mae: float | None = None
    test_r2: float | None = None
    test_se: float | None = None
    test_examples: int | None = None
    reason: str | None = None
    predictions_file: str | None = None
    example_scores: NDArray[Any] | None = None

    @property
    def confirms(self) -> bool:
        return self.source_trial is not None

    @property
    def is_finished(self) -> bool:
        return self.state in ("COMPLETE", "PRUNED", "FAIL")

    @property
    def final_value(self) -> float | None:
        """The value of a complete trial; None for any other: pruned trials never compete."""
        return self.value if self.state == "COMPLETE" else None

    def test_score(self, metric: Metric) -> float:
        """Return the test score; NaN without a finite one, and for trials not complete."""
        score = getattr(self, metric.attribute)
        return score if self.state == "COMPLETE" and score is not None and isfinite(score) else nan
