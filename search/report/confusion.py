"""The classes that are taken for each other: a confusion matrix, the worst first."""

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from search.report.markup import plain
from search.report.style import LAYOUT
from search.verdict.predictions import Predictions

MAX_CLASSES_IN_MATRIX = 12
"""Classes of a matrix that a phone can show; of more, pairs alone are listed."""
MAX_PAIRS = 8
"""Pairs of classes listed."""
MAX_NAME_LENGTH = 12
"""Characters of a class's name on the matrix's axes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Test examples of one class that were taken for another.

    count, share: of a run, a mean over the runs; the share is of the class's examples.
    """

    true: str
    answer: str
    count: float
    share: float


def confusion(found: Predictions) -> NDArray[np.float64]:
    """Return the counts (classes, classes) of true class and answer, a mean over the runs."""
    classes, targets = len(found.test.classes), found.test.targets
    counts = np.zeros((classes, classes))
    for predicted in found.predicted:
        np.add.at(counts, (targets, predicted.argmax(axis=1)), 1 / len(found.predicted))
    return counts


def worst_pairs(found: Predictions) -> list[Pair]:
    """Return the pairs that are taken for each other most often, the worst first."""
    counts, names = confusion(found), found.test.classes
    totals = counts.sum(axis=1)
    np.fill_diagonal(counts, 0.0)
    order = np.argsort(-counts, axis=None, kind="stable")[:MAX_PAIRS]
    places = [(int(place) // len(names), int(place) % len(names)) for place in order]
    return [
        Pair(true=names[i], answer=names[j], count=float(counts[i, j]), share=float(counts[i, j] / totals[i]))
        for i, j in places
        if counts[i, j] > 0
    ]


def matrix(found: Predictions) -> go.Figure | None:
    """Draw the answers to each class in per cent; None of too many classes.

    The class with most errors comes first.
    """
    names = found.test.classes
    if len(names) > MAX_CLASSES_IN_MATRIX:
        return None
    counts = confusion(found)
    totals = counts.sum(axis=1)
    order = np.argsort(np.where(totals > 0, np.diag(counts) / np.maximum(totals, 1), 1.0), kind="stable")
    shares = 100 * (counts / np.maximum(totals, 1)[:, None])[np.ix_(order, order)]
    shown = [plain(_short(names[place])) for place in order]
    places = list(range(len(names)))
    figure = go.Figure()
    figure.add_heatmap(
        x=places, y=places, z=shares, zmin=0, zmax=100, colorscale=[[0, "#ffffff"], [1, "#0072B2"]], showscale=False,
        text=[[f"{share:.0f}" if share >= 0.5 else "" for share in row] for row in shares], texttemplate="%{text}",
        customdata=[[[true, answer] for answer in shown] for true in shown], xgap=1, ygap=1,
        hovertemplate="%{customdata[0]}, taken for %{customdata[1]}: %{z:.1f} %<extra></extra>",
    )  # fmt: skip
    figure.update_layout(**LAYOUT, height=120 + max(28 * len(names), 160))
    ticks = {"tickvals": places, "ticktext": shown, "showgrid": False, "zeroline": False}
    figure.update_xaxes(**ticks, title_text="answer")
    return figure.update_yaxes(**ticks, title_text="is", autorange="reversed")


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME_LENGTH else f"{name[: MAX_NAME_LENGTH - 1]}…"
