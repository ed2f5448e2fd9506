"""Metrics by which strategies are searched and judged. No library."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import floor, inf, log10

BOTH = ("classification", "regression")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A score of predictions, over a whole validation or test set.

    name: its word in a study file.
    label: its name in sentences.
    kinds: of the tasks that it fits.
    lowest, highest: its least and its largest possible value.
    relative: the margin of practical equivalence is a share of the leader's score, not absolute.
    percent: it is shown in per cent with one decimal, not in three digits.
    is_mean: it is a mean of one number an example.
    own: the user's own module logs it, by its own definition.
    """

    name: str
    label: str
    kinds: tuple[str, ...]
    higher_is_better: bool = True
    lowest: float = 0.0
    highest: float = 1.0
    relative: bool = False
    percent: bool = False
    is_mean: bool = False
    own: bool = False

    @property
    def validated(self) -> str:
        """The name of its validation score: logged, in files and tables."""
        return f"val_{self.name}"

    @property
    def attribute(self) -> str:
        """The name of its test score: a trial's attribute, in files and tables."""
        return f"test_{self.name}"

    @property
    def tested(self) -> str:
        """The name of its test score in sentences."""
        return f"test {self.label}"

    @property
    def title(self) -> str:
        """The title of an axis of test scores."""
        return self.axis("test")

    def axis(self, part: str) -> str:
        """Return the title of an axis of its scores on a part of the examples."""
        unit = ", %" if self.percent else "" if self.higher_is_better else " (less is better)"
        return f"{part} {self.label}{unit}"

    @property
    def sign(self) -> float:
        """The factor that makes more of it better."""
        return 1.0 if self.higher_is_better else -1.0

    @property
    def scale(self) -> float:
        """The factor by which it is shown."""
        return 100.0 if self.percent else 1.0

    @property
    def largest_error(self) -> float:
        """The largest possible distance from the best possible score."""
        return self.highest - self.lowest

    def error(self, score: float) -> float:
        """Return a score's distance from the best possible one, or turn it back."""
        return self.highest - score if self.higher_is_better else score

    def allows(self, score: float) -> bool:
        """Check that a score is in range; NaN, which is not defined, passes."""
        return not (score < self.lowest or score > self.highest)

    def interval(self, score: float, low: float, high: float, *, unit: bool = True) -> str:
        """Format a score with its interval: "95.1 % (94.0-96.2)" or "0.123 (0.110-0.140)"."""
        shown, least, most = (self.shown(value, like=score) for value in (score, low, high))
        return f"{shown}{' %' if unit and self.percent else ''} ({least}{' to ' if low < 0 else '-'}{most})"

    def shown(self, score: float, *, like: float | None = None) -> str:
        """Format a score without its unit, with as many digits as a score `like` has."""
        like = score if like is None else like
        return format(self.scale * score, f".{self._decimals(like)}f" if self._is_plain(like) else ".2e")

    def with_unit(self, score: float) -> str:
        """Format a score: "95.1 %" or "0.123"."""
        return f"{self.shown(score)}{' %' if self.percent else ''}"

    def rounded(self, score: float) -> float:
        """Round a score to about four digits, for a file."""
        return round(score, 4) if self.percent else float(f"{score:.4g}")

    def margin(self, margin: float) -> str:
        """Format the margin of practical equivalence: "1 point", "5 % of the score" or "0.01"."""
        if not (self.relative or self.percent):
            return f"{margin:g}"
        unit = "% of the score" if self.relative else "point" if margin == 0.01 else "points"
        return f"{100 * margin:g} {unit}"

    def _is_plain(self, score: float) -> bool:
        return self.percent or score == 0 or 1e-4 <= abs(score) < 1e6

    def _decimals(self, score: float) -> int:
        return 1 if self.percent else 3 if score == 0 else max(0, 2 - floor(log10(abs(score))))


def _share(name: str, label: str, *, is_mean: bool = False) -> Metric:
    return Metric(name=name, label=label, kinds=("classification",), percent=True, is_mean=is_mean)


def _error(name: str, label: str, kinds: tuple[str, ...], *, is_mean: bool) -> Metric:
    return Metric(
        name=name, label=label, kinds=kinds, higher_is_better=False, highest=inf, relative=True, is_mean=is_mean
    )


_ALL = (
    _share("accuracy", "accuracy", is_mean=True),
    _share("balanced_accuracy", "balanced accuracy"),
    _share("f1", "macro F1"),
    _share("auroc", "AUROC"),
    _share("average_precision", "average precision"),
    _error("loss", "loss", BOTH, is_mean=True),
    _error("mae", "mean absolute error", ("regression",), is_mean=True),
    _error("rmse", "root mean squared error", ("regression",), is_mean=False),
    Metric(name="r2", label="R²", kinds=("regression",), lowest=-inf),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""By the word of `[task] metric`."""


def metric_of(name: str | None, kind: str, *, own: bool = False) -> Metric:
    """Return the metric of that name; None is the default of the kind of task.

    own: the user's own module logs it. Then the default is its loss, which may be below 0.
    """
    if not own:
        return METRICS[name or ("rmse" if kind == "regression" else "accuracy")]
    metric = METRICS[name or "loss"]
    return replace(metric, own=True, lowest=-inf if metric.name == "loss" else metric.lowest)


def fitting(kind: str) -> list[Metric]:
    """Return the metrics of a kind of task."""
    return [metric for metric in METRICS.values() if kind in metric.kinds]


def score_names(metrics: Iterable[Metric]) -> list[str]:
    """Return the names of their scores: validated ones, then tested ones."""
    metrics = list(metrics)
    return [metric.validated for metric in metrics] + [metric.attribute for metric in metrics]
