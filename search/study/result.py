"""The result of a trial's run, as its study stores it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """How a trial's run ended.

    value: of the search, the metric in validation over the last quarter of its epochs; of a confirm trial, on the
        test set. NaN if that is not finite.
    epochs: trained in all.
    seconds: of training, in all processes that worked on the trial.
    reason: why it failed.
    scores: a confirm trial's scores on the test set, named as its attributes.
    predictions: what `save_predictions` stores of a confirm trial.
    """

    state: TrialState
    value: float
    epochs: int
    seconds: float
    reason: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    predictions: Mapping[str, Any] | None = None

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes that the trial stores."""
        known = {"epochs": self.epochs, "seconds": round(self.seconds, 4)}
        return known | dict(self.scores) | ({} if self.reason is None else {"reason": self.reason})
