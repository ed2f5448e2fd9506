"""Figures of the exploring trials of one size."""

from collections.abc import Sequence
from itertools import accumulate

import plotly.graph_objects as go

from search.report.style import LAYOUT, STYLES, marker, params_text, value_axis
from search.verdict.metric import Metric
from search.verdict.rows import Row


def best_so_far(rows: Sequence[Row], *, metric: Metric) -> list[tuple[int, float]]:
    """Return (number, best value so far) of every complete trial."""
    complete = [(row.number, row.final_value) for row in rows if row.final_value is not None]
    values = accumulate((value for _, value in complete), max if metric.higher_is_better else min)
    return [(number, value) for (number, _), value in zip(complete, values, strict=True)]


def history(rows: Sequence[Row], *, metric: Metric) -> go.Figure:
    """Draw the validation metric by trial, with the best so far; pruned trials are open."""
    figure = go.Figure()
    for family in STYLES:
        own = [row for row in rows if row.family == family and row.value is not None]
        if not own:
            continue
        figure.add_scatter(
            x=[row.number for row in own], y=[row.value for row in own], name=family, mode="markers",
            marker=marker(family, filled=[row.state != "PRUNED" for row in own], size=10),
            customdata=[[f"{family}, {row.state.lower()}", params_text(row.strategy)] for row in own],
            hovertemplate="trial %{x}, %{customdata[0]}: %{y:.4f}<br>%{customdata[1]}<extra></extra>",
        )  # fmt: skip
    best = best_so_far(rows, metric=metric)
    figure.add_scatter(
        x=[number for number, _ in best], y=[value for _, value in best], name="best so far", mode="lines",
        line={"color": "#888888", "width": 1.2, "shape": "hv"}, hoverinfo="skip",
    )  # fmt: skip
    figure.update_layout(**LAYOUT, height=330)
    figure.update_xaxes(title_text="trial (open: pruned)")
    axis = value_axis(row.value for row in rows if row.value is not None) if metric.relative else {}
    return figure.update_yaxes(title_text=metric.axis("validation"), **axis)


def curves(rows: Sequence[Row], *, metric: Metric) -> go.Figure:
    """Draw the validation metric by epoch, one line a trial; pruned trials are faint."""
    figure = go.Figure()
    named: set[str] = set()
    for row in (row for row in rows if row.curve):
        colour, dash, _ = STYLES[row.family]
        figure.add_scatter(
            x=[epoch for epoch, _ in row.curve], y=[value for _, value in row.curve], name=row.family,
            legendgroup=row.family, showlegend=row.family not in named, mode="lines",
            opacity=0.45 if row.state == "PRUNED" else 0.9, line={"color": colour, "dash": dash, "width": 1.4},
            hovertemplate=f"trial {row.number}, {row.family}, epoch %{{x}}: %{{y:.4f}}<extra></extra>",
        )  # fmt: skip
        named.add(row.family)
    figure.update_layout(**LAYOUT, height=330)
    figure.update_xaxes(title_text="epoch (faint: pruned)")
    axis = value_axis(value for row in rows for _, value in row.curve) if metric.relative else {}
    return figure.update_yaxes(title_text=metric.axis("validation"), **axis)
