"""The page's section on the test set: single classes and single examples."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from search.report.confusion import matrix, worst_pairs
from search.report.markup import fill, plain, to_html
from search.report.style import LAYOUT
from search.verdict.judge import Verdict
from search.verdict.metric import fitting
from search.verdict.predictions import Predictions, read_predictions
from search.verdict.results import Results
from search.verdict.rows import Row

HEADINGS = {
    "classification": "What the recommended strategy gets right",
    "regression": "How close the recommended strategy comes",
}
MAX_CLASSES_DRAWN = 8
"""Precision-recall curves drawn, of the classes that do worst."""
MAX_POINTS_DRAWN = 500
"""Test examples drawn as points."""
MAX_NAME_LENGTH = 30
"""Characters of a class's name in a legend."""

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F", "#8C510A")
_DASHES = ("solid", "dash", "dot", "dashdot")
_RECALLS = np.linspace(0.0, 1.0, 101)


def section(results: Results, verdict: Verdict) -> Markup:
    """Return the section on this verdict's recommended strategy, from the files of its confirm trials."""
    judged = [row for row in results.confirmed(verdict.size) if row.strategy == verdict.recommended.strategy]
    rows = sorted(judged, key=lambda row: row.repeat)
    found = read_predictions(results.location, rows)
    classes = found is not None and bool(found.test.classes)
    drawn = matrix(found) if found is not None and classes else None
    return fill(
        "test_examples.html.jinja", results=results, verdict=verdict, rows=rows,
        scores=_scores(rows, verdict, kind=results.kind), heading=HEADINGS[results.kind], found=found,
        figure=None if found is None else to_html(_figure(found)),
        gallery=gallery(found) if found is not None and classes else [],
        pairs=worst_pairs(found) if found is not None and classes else [],
        matrix=None if drawn is None else to_html(drawn), max_classes=MAX_CLASSES_DRAWN,
        max_points=MAX_POINTS_DRAWN,
    )  # fmt: skip


def _scores(rows: Sequence[Row], verdict: Verdict, *, kind: str) -> str:
    best, metric = verdict.recommended, verdict.metric
    texts = [f"{metric.tested} {metric.interval(best.score, best.low, best.high)}"]
    for other in (one for one in fitting(kind) if one.name != metric.name):
        values = [row.scores[other.attribute] for row in rows if other.attribute in row.scores]
        if len(values) == len(rows) and np.isfinite(values).all():
            texts.append(f"{other.label} {np.mean(values):.3g}")
    return ", ".join(texts)


def _figure(found: Predictions) -> go.Figure:
    if found.test.classes:
        return precision_recall(found)
    truth, predicted = found.test.targets.reshape(len(found.test.targets), -1), found.predicted[0]
    if truth.shape[1] == 1:
        return predicted_against_true(predicted[:, 0], truth[:, 0])
    return forecasts(predicted, truth)


# -- classification ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """The precision-recall curve of a class, a mean over repeats: `precision` (101,) at `_RECALLS`."""

    name: str
    average_precision: float
    precision: NDArray[np.float64]


def precision_recall_info(found: Predictions) -> list[Curve]:
    """Return the curves of the test set's classes, the worst average precision first."""
    from sklearn.metrics import average_precision_score

    curves = []
    for label, name in enumerate(found.test.classes):
        positive = found.test.targets == label
        if positive.any():
            runs = [np.nan_to_num(predicted[:, label]) for predicted in found.predicted]
            average = float(np.mean([average_precision_score(positive, scores) for scores in runs]))
            precision = np.mean([interpolated_precision(positive, scores) for scores in runs], axis=0)
            curves.append(Curve(name=name, average_precision=average, precision=precision))
    return sorted(curves, key=lambda curve: curve.average_precision)


def interpolated_precision(positive: NDArray[np.bool_], scores: NDArray[Any]) -> NDArray[np.float64]:
    """Return the best precision at each of `_RECALLS` or above, from positives and scores (N,)."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(positive, scores)
    # By ascending recall, without the (recall 0, precision 1) that scikit-learn adds.
    best, recall = np.maximum.accumulate(precision[:-1])[::-1], recall[-2::-1]
    return np.asarray(best[np.minimum(np.searchsorted(recall, _RECALLS - 1e-9), len(best) - 1)])


def precision_recall(found: Predictions) -> go.Figure:
    """Draw precision against recall: the macro average, and the classes whose average precision is least."""
    curves, figure = precision_recall_info(found), go.Figure()
    figure.add_scatter(
        x=_RECALLS, y=np.mean([curve.precision for curve in curves], axis=0),
        name=f"macro average, AP {np.mean([curve.average_precision for curve in curves]):.3f}", mode="lines",
        line={"color": "#000000", "width": 3},
    )  # fmt: skip
    for index, curve in enumerate(curves[:MAX_CLASSES_DRAWN]):
        short = curve.name if len(curve.name) <= MAX_NAME_LENGTH else f"{curve.name[: MAX_NAME_LENGTH - 1]}…"
        figure.add_scatter(
            x=_RECALLS, y=curve.precision, name=f"{plain(short)}, AP {curve.average_precision:.3f}", mode="lines",
            line={"color": _COLOURS[index], "dash": _DASHES[index % len(_DASHES)], "width": 1.5},
        )  # fmt: skip
    figure.update_layout(**LAYOUT, height=400)
    figure.update_xaxes(title_text="recall", range=[0, 1.01])
    return figure.update_yaxes(title_text="precision", range=[0, 1.03])


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One image of the gallery, with its true class and the model's answer."""

    index: int
    image: str
    true: str
    answer: str
    probability: float
    correct: bool


def gallery(found: Predictions) -> list[Shown]:
    """Return the kept test images as the first run sees them, wrong answers first."""
    test, probabilities = found.test, found.predicted[0]
    answers = probabilities.argmax(axis=1)
    shown = [
        Shown(
            index=int(index), image=_png(test.thumbnails[place]), true=test.classes[test.targets[index]],
            answer=test.classes[answers[index]], probability=float(probabilities[index, answers[index]]),
            correct=bool(answers[index] == test.targets[index]),
        )
        for place, index in enumerate(test.shown)
    ]  # fmt: skip
    return sorted(shown, key=lambda one: one.correct)


def _png(pixels: NDArray[np.uint8]) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


# -- regression --------------------------------------------------------------------------------------------


def predicted_against_true(predicted: NDArray[np.float32], truth: NDArray[np.float32]) -> go.Figure:
    """Draw one output (N,): a point a test example, and the line of equality."""
    some = np.random.default_rng(0).permutation(len(truth))[:MAX_POINTS_DRAWN]
    ends = [float(min(predicted[some].min(), truth[some].min())), float(max(predicted[some].max(), truth[some].max()))]
    figure = go.Figure()
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"color": "#888888", "dash": "dash"}, hoverinfo="skip")
    figure.add_scatter(
        x=truth[some], y=predicted[some], mode="markers", marker={"color": "#0072B2", "size": 7, "opacity": 0.55},
        hovertemplate="true %{x:.4g}, predicted %{y:.4g}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(**LAYOUT, height=460)
    return figure.update_xaxes(title_text="true").update_yaxes(title_text="predicted")


def forecasts(predicted: NDArray[np.float32], truth: NDArray[np.float32]) -> go.Figure:
    """Draw forecast and truth (N, K) of three examples: small, usual and large error."""
    errors = np.square(predicted - truth).mean(axis=1)
    order = np.argsort(errors)
    chosen = [int(order[round(share * (len(order) - 1))]) for share in (0.1, 0.5, 0.9)]
    titles = [f"test example {index}, squared error {errors[index]:.3g}" for index in chosen]
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, subplot_titles=titles, vertical_spacing=0.09)
    lines = (("true", truth, "#000000", "solid", "circle"), ("forecast", predicted, "#D55E00", "dash", "diamond"))
    for row, index in enumerate(chosen, start=1):
        for name, values, colour, dash, symbol in lines:
            figure.add_scatter(
                x=list(range(1, truth.shape[1] + 1)), y=values[index], name=name, showlegend=row == 1,
                mode="lines+markers", line={"color": colour, "dash": dash}, marker={"symbol": symbol, "size": 6},
                row=row, col=1,
            )  # fmt: skip
    figure.update_layout(**LAYOUT, height=580)
    return figure.update_xaxes(title_text="output", row=3, col=1)
