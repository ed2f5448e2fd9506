"""What the recommended strategy does on the test set: the page's section on single classes and single examples."""

import base64
import io
from collections.abc import Iterator
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from search.report.style import LAYOUT, to_html
from search.verdict.judge import Verdict
from search.verdict.predictions import Predictions, TestSet, read_predictions
from search.verdict.results import Results
from search.verdict.rows import Row

CLASSES = 8
"""The precision-recall curves of so many classes are drawn, those that do worst."""
POINTS = 500
"""So many test examples are drawn as points."""
STYLE = """
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.8rem, 1fr)); gap: .6rem; margin: .6rem 0; }
.grid figure { margin: 0; padding: .4rem; border: 1px solid #ddd; text-align: center; overflow-wrap: anywhere; }
.grid figure.wrong { border: 3px solid #D55E00; padding: calc(.4rem - 2px); }
.grid img { width: 4.5rem; height: 4.5rem; object-fit: contain; image-rendering: pixelated; }
.grid figcaption { font-size: .85rem; line-height: 1.3; }
"""

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F", "#8C510A")
_DASHES = ("solid", "dash", "dot", "dashdot")
_RECALLS = np.linspace(0.0, 1.0, 101)


def section(results: Results, verdict: Verdict) -> str:
    """The recommended strategy of this verdict on the test set, as HTML; from its confirm trials' files."""
    best = verdict.recommended
    rows = sorted(
        (r for r in results.confirmed(verdict.size) if r.source_trial == best.source_trial), key=lambda r: r.repeat
    )
    found = read_predictions(results.location, rows)
    if found is None:
        body = '<p class="quiet">What its runs predicted lies in the study\'s folder, which is not here.</p>'
    else:
        body = "".join(_classes(found) if found.test.classes else _outputs(found))
    return (
        f"<h2>{verdict.metric.question}</h2><p>At {verdict.size} labels, {escape(best.family)}, over {len(rows)} "
        f"runs on {rows[0].test_examples} test examples: {escape(_scores(rows, verdict))}.</p>{body}"
    )


def _scores(rows: list[Row], verdict: Verdict) -> str:
    best, metric = verdict.recommended, verdict.metric
    texts = [f"{metric.name} {metric.interval(best.score, best.low, best.high)}"]
    for attribute, name in metric.others:
        values = [value for row in rows if (value := getattr(row, attribute)) is not None]
        if len(values) == len(rows):
            texts.append(f"{name} {np.mean(values):.3g}")
    return ", ".join(texts)


# -- classification ----------------------------------------------------------------------------------------


def _classes(found: Predictions) -> Iterator[str]:
    yield f"<h3>Precision and recall, class by class</h3>{to_html(precision_recall_curves(found))}"
    yield (
        f'<p class="quiet">Each class against the rest, from the probabilities that the runs gave it, a mean over the '
        f"runs. AP: average precision. Of more than {CLASSES} classes, those with the lowest are drawn.</p>"
    )
    if len(found.test.shown):
        yield from _gallery(found.test, found.predicted[0], repeat=found.repeats[0])


def precision_recall_curves(found: Predictions) -> go.Figure:
    """Precision against recall: the macro average, and the classes whose average precision is least."""
    from sklearn.metrics import average_precision_score

    test = found.test
    curves: list[tuple[float, str, NDArray[np.float64]]] = []
    for label, name in enumerate(test.classes):
        positive = test.targets == label
        if not positive.any():
            continue
        runs = [np.nan_to_num(predicted[:, label]) for predicted in found.predicted]
        precision = float(np.mean([average_precision_score(positive, scores) for scores in runs]))
        curves.append((precision, name, np.mean([interpolated_precision(positive, s) for s in runs], axis=0)))
    curves.sort(key=lambda item: item[0])
    macro = np.mean([precision for precision, _, _ in curves])
    figure = go.Figure()
    figure.add_scatter(
        x=_RECALLS,
        y=np.mean([curve for _, _, curve in curves], axis=0),
        name=f"macro average, AP {macro:.3f}",
        mode="lines",
        line={"color": "#000000", "width": 3},
    )
    for index, (precision, name, curve) in enumerate(curves[:CLASSES]):
        figure.add_scatter(
            x=_RECALLS,
            y=curve,
            name=f"{_plain(name)}, AP {precision:.3f}",
            mode="lines",
            line={"color": _COLOURS[index], "dash": _DASHES[index % len(_DASHES)], "width": 1.5},
        )
    figure.update_layout(**{**LAYOUT, "legend": {"orientation": "h", "yanchor": "top", "y": -0.2, "x": 0}}, height=560)
    figure.update_xaxes(title_text="recall", range=[0, 1.01])
    figure.update_yaxes(title_text="precision", range=[0, 1.03])
    return figure


def interpolated_precision(positive: NDArray[np.bool_], scores: NDArray[Any]) -> NDArray[np.float64]:
    """Return the best precision at each of `_RECALLS` or above, for scores (N,) and at least one positive (N,)."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(positive, scores)
    # By ascending recall, without the (recall 0, precision 1) that scikit-learn adds.
    best, recall = np.maximum.accumulate(precision[:-1])[::-1], recall[-2::-1]
    return np.asarray(best[np.minimum(np.searchsorted(recall, _RECALLS - 1e-9), len(best) - 1)])


def _gallery(test: TestSet, probabilities: NDArray[np.float32], *, repeat: int) -> Iterator[str]:
    chosen = probabilities.argmax(axis=1)
    right = chosen == test.targets
    order = sorted(range(len(test.shown)), key=lambda place: bool(right[test.shown[place]]))
    wrong = sum(not right[index] for index in test.shown)
    yield (
        f'<h3>Some test examples</h3><p class="quiet">A fixed draw from every class in turn, as the run on repeat '
        f"{repeat} sees them, with the probability it gives its answer; {wrong} of these {len(order)} are wrong, and "
        "stand first.</p>"
    )
    yield '<div class="grid">'
    for place in order:
        index = int(test.shown[place])
        true, said = test.classes[test.targets[index]], test.classes[chosen[index]]
        sure = f"{100 * probabilities[index, chosen[index]]:.0f} %"
        alt = f"test example {index}: {true}" + ("" if right[index] else f", taken for {said}")
        mark = "" if right[index] else ' class="wrong"'
        text = f"✓ {escape(said)}, {sure}" if right[index] else f"✗ {escape(said)}, {sure}<br>is {escape(true)}"
        yield (
            f'<figure{mark}><img src="{_png(test.thumbnails[place])}" alt="{escape(alt)}">'
            f"<figcaption>{text}</figcaption></figure>"
        )
    yield "</div>"


def _png(pixels: NDArray[np.uint8]) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _plain(name: str) -> str:
    # Plotly reads a few HTML tags in its texts.
    return escape(name if len(name) <= 30 else f"{name[:29]}…", quote=False)


# -- regression --------------------------------------------------------------------------------------------


def _outputs(found: Predictions) -> Iterator[str]:
    truth = found.test.targets.reshape(len(found.test.targets), -1)
    predicted, repeat = found.predicted[0], found.repeats[0]
    if truth.shape[1] == 1:
        yield f"<h3>Predicted against true</h3>{to_html(predicted_against_true(predicted[:, 0], truth[:, 0]))}"
        some = f"{POINTS} of the test examples" if len(truth) > POINTS else "Every test example"
        yield f'<p class="quiet">{some}, as the run on repeat {repeat} sees them; on the line they are right.</p>'
    else:
        yield f"<h3>Forecast and truth</h3>{to_html(forecasts(predicted, truth))}"
        yield (
            f'<p class="quiet">Three test examples, as the run on repeat {repeat} sees them: one tenth of all have a '
            "smaller error than the first, half of all than the second, nine tenths than the third.</p>"
        )


def predicted_against_true(predicted: NDArray[np.float32], truth: NDArray[np.float32]) -> go.Figure:
    """One output: a point a test example, and the line on which both are equal."""
    some = np.random.default_rng(0).permutation(len(truth))[:POINTS]
    ends = [float(min(predicted[some].min(), truth[some].min())), float(max(predicted[some].max(), truth[some].max()))]
    figure = go.Figure()
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"color": "#888888", "dash": "dash"}, hoverinfo="skip")
    figure.add_scatter(
        x=truth[some],
        y=predicted[some],
        mode="markers",
        marker={"color": "#0072B2", "size": 7, "opacity": 0.55},
        hovertemplate="true %{x:.4g}, predicted %{y:.4g}<extra></extra>",
    )
    figure.update_layout(**LAYOUT, height=460, showlegend=False)
    figure.update_xaxes(title_text="true")
    figure.update_yaxes(title_text="predicted")
    return figure


def forecasts(predicted: NDArray[np.float32], truth: NDArray[np.float32]) -> go.Figure:
    """Several outputs: forecast and truth of an example with a small error, a usual one and a large one."""
    errors = np.square(predicted - truth).mean(axis=1)
    order = np.argsort(errors)
    chosen = [int(order[round(share * (len(order) - 1))]) for share in (0.1, 0.5, 0.9)]
    titles = [f"test example {index}, squared error {errors[index]:.3g}" for index in chosen]
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, subplot_titles=titles, vertical_spacing=0.09)
    steps = list(range(1, truth.shape[1] + 1))
    lines = (("true", truth, "#000000", "solid", "circle"), ("forecast", predicted, "#D55E00", "dash", "diamond"))
    for row, index in enumerate(chosen, start=1):
        for name, values, colour, dash, symbol in lines:
            figure.add_scatter(
                x=steps,
                y=values[index],
                name=name,
                showlegend=row == 1,
                mode="lines+markers",
                line={"color": colour, "dash": dash},
                marker={"symbol": symbol, "size": 6},
                row=row,
                col=1,
            )
    figure.update_layout(**{**LAYOUT, "legend": {"orientation": "h", "y": 1.09, "x": 0}}, height=620)
    figure.update_xaxes(title_text="output", row=3, col=1)
    return figure
