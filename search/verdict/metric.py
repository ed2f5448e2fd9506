"""The test metric of each kind of task. No library."""

from dataclasses import dataclass
from math import floor, inf, log10


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A test score: the mean of one number a test example, 0 or more.

    attribute: the trial's attribute, and the row's field, that holds it.
    highest: its largest possible value.
    relative: the margin of practical equivalence is a share of the leader's score, not absolute.
    percent: it is shown in per cent with one decimal, not in three digits.
    question: the heading of the page's section on the recommended strategy.
    others: further scores shown beside it, as (attribute, name).
    """

    name: str
    attribute: str
    higher_is_better: bool
    highest: float
    relative: bool
    percent: bool
    question: str
    others: tuple[tuple[str, str], ...]

    @property
    def sign(self) -> float:
        """The factor that makes more of it better."""
        return 1.0 if self.higher_is_better else -1.0

    @property
    def scale(self) -> float:
        """The factor by which it is shown."""
        return 100.0 if self.percent else 1.0

    def error(self, score: float) -> float:
        """Return a score's distance from the best possible one, or turn it back."""
        return self.highest - score if self.higher_is_better else score

    @property
    def title(self) -> str:
        """The title of its axis."""
        return f"{self.name}, %" if self.percent else f"{self.name} (less is better)"

    def interval(self, score: float, low: float, high: float, *, unit: bool = True) -> str:
        """Format a score with its interval: "95.1 % (94.0-96.2)" or "0.123 (0.110-0.140)"."""
        form = f".{self._decimals(score)}f" if self._is_plain(score) else ".2e"
        shown, least, most = (format(self.scale * value, form) for value in (score, low, high))
        return f"{shown}{' %' if unit and self.percent else ''} ({least}-{most})"

    def rounded(self, score: float) -> float:
        """Round a score to about four digits, for a file."""
        return round(score, 4) if self.percent else float(f"{score:.4g}")

    def margin(self, margin: float) -> str:
        """Format the margin of practical equivalence: "1 point" or "5 % of the score"."""
        unit = "% of the score" if self.relative else "point" if margin == 0.01 else "points"
        return f"{100 * margin:g} {unit}"

    def _is_plain(self, score: float) -> bool:
        return self.percent or score == 0 or 1e-4 <= score < 1e6

    def _decimals(self, score: float) -> int:
        return 1 if self.percent else 3 if score == 0 else max(0, 2 - floor(log10(score)))


METRICS = {
    "classification": Metric(
        name="test accuracy", attribute="test_accuracy", higher_is_better=True, highest=1.0, relative=False,
        percent=True, question="What the recommended strategy gets right",
        others=(("test_macro_f1", "macro F1"), ("test_auroc", "AUROC"), ("test_loss", "loss")),
    ),
    "regression": Metric(
        name="test MSE", attribute="test_mse", higher_is_better=False, highest=inf, relative=True,
        percent=False, question="How close the recommended strategy comes",
        others=(("test_mae", "mean absolute error"), ("test_r2", "R2")),
    ),
}  # fmt: skip
"""By the kind of task."""
