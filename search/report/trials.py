"""What the search tried at one size: figures of its trials, from rows."""

from collections.abc import Sequence

import plotly.graph_objects as go

from search.report.style import LAYOUT, STYLES, marker, short, value_axis
from search.verdict.rows import Row


def history(rows: Sequence[Row], *, metric: str, maximize: bool) -> go.Figure:
    """What the search tried at one size, in order: value by trial, with the best so far."""
    figure = go.Figure()
    finished = [row for row in rows if row.value is not None]
    for family in STYLES:
        ours = [row for row in finished if row.family == family]
        if not ours:
            continue
        figure.add_scatter(
            x=[row.number for row in ours],
            y=[row.value for row in ours],
            name=family,
            mode="markers",
            marker=marker(family, filled=[row.state != "PRUNED" for row in ours], size=10),
            customdata=[[f"{family}, {row.state.lower()}", _brief(row)] for row in ours],
            hovertemplate="trial %{x}, %{customdata[0]}: %{y:.4f}<br>%{customdata[1]}<extra></extra>",
        )
    complete = [row for row in finished if row.state == "COMPLETE"]
    best: list[float] = []
    for row in complete:
        value = row.value if row.value is not None else 0.0
        best.append(value if not best else (max if maximize else min)(best[-1], value))
    figure.add_scatter(
        x=[row.number for row in complete],
        y=best,
        name="best so far",
        mode="lines",
        line={"color": "#888888", "width": 1.2, "shape": "hv"},
        hoverinfo="skip",
    )
    figure.update_layout(**LAYOUT, height=360)
    figure.update_xaxes(title_text="trial (open: pruned)")
    axis = value_axis(row.value for row in finished if row.value is not None) if metric == "val_loss" else {}
    figure.update_yaxes(title_text=f"{metric}, best epoch", **axis)
    return figure


def curves(rows: Sequence[Row], *, metric: str) -> go.Figure:
    """The metric that steers, by epoch, one line a trial of the search."""
    figure = go.Figure()
    shown: set[str] = set()
    for row in rows:
        if not row.curve:
            continue
        colour, dash, _ = STYLES[row.family]
        figure.add_scatter(
            x=[epoch for epoch, _ in row.curve],
            y=[value for _, value in row.curve],
            name=row.family,
            legendgroup=row.family,
            showlegend=row.family not in shown,
            mode="lines",
            opacity=0.45 if row.state == "PRUNED" else 0.9,
            line={"color": colour, "dash": dash, "width": 1.4},
            hovertemplate=f"trial {row.number}, {row.family}, epoch %{{x}}: %{{y:.4f}}<extra></extra>",
        )
        shown.add(row.family)
    figure.update_layout(**LAYOUT, height=360)
    figure.update_xaxes(title_text="epoch (faint: pruned)")
    axis = value_axis(value for row in rows for _, value in row.curve) if metric == "val_loss" else {}
    figure.update_yaxes(title_text=metric, **axis)
    return figure


def _brief(row: Row) -> str:
    return ", ".join(f"{name} {short(value)}" for name, value in row.strategy.to_params().items())
