"""Rows and verdicts as plotly figures: figure functions take plain values and return figures."""

from collections.abc import Mapping, Sequence
from math import log10
from typing import Any

import plotly.graph_objects as go
import plotly.io
from plotly.subplots import make_subplots

from search.rows import Results, Row
from search.verdict import Contestant, Verdict
from strategies import Family

# Okabe & Ito's colours, told apart by colour-blind eyes, with a dash and a symbol each for black and white.
STYLES: dict[str, tuple[str, str, str]] = {
    Family.LINEAR_PROBING: ("#0072B2", "dot", "circle"),
    Family.PARTIAL_FREEZING: ("#D55E00", "solid", "square"),
    Family.FULL_FINE_TUNING: ("#009E73", "dash", "diamond"),
    Family.FREEZE_THEN_UNFREEZE: ("#CC79A7", "dashdot", "triangle-up"),
    Family.GRADUAL_UNFREEZING: ("#56B4E9", "longdash", "triangle-down"),
    Family.FROM_SCRATCH: ("#000000", "longdashdot", "x"),
}
# Ticks at 1, 2 and 5, each written out; plotly's own "D2" says a bare "5" for 0.0005.
_LOG = {"type": "log", "tickvals": [d * 10.0**p for p in range(-12, 13) for d in (1, 2, 5)], "tickformat": "~g"}
LAYOUT = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "margin": {"l": 60, "r": 15, "t": 40, "b": 50},
    "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
}


def answer(verdicts: Mapping[int, Verdict]) -> go.Figure:
    """Test score against size with 90 % intervals, contenders filled, over P(best) as a strip."""
    sizes = sorted(verdicts)
    measure = verdicts[sizes[0]].measure
    scale = measure.scale
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.68, 0.32], vertical_spacing=0.06)
    families = [family for family in STYLES if any(_of(verdicts[size], family) for size in sizes)]
    for shift, family in enumerate(families):
        colour, dash, symbol = STYLES[family]
        places = [(i, c) for i, size in enumerate(sizes) if (c := _of(verdicts[size], family)) is not None]
        figure.add_scatter(
            # A little apart, so that intervals at the same size do not hide each other.
            x=[i + (shift - (len(families) - 1) / 2) * 0.07 for i, _ in places],
            y=[scale * c.score for _, c in places],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [scale * (c.high - c.score) for _, c in places],
                "arrayminus": [scale * (c.score - c.low) for _, c in places],
                "thickness": 1.2,
                "width": 3,
            },
            name=family,
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 1.6},
            marker={
                "symbol": [symbol if c.contends else f"{symbol}-open" for _, c in places],
                "size": 11,
                "line": {"width": 1.6, "color": colour},
                "color": colour,
            },
            customdata=[
                [
                    sizes[i],
                    c.p_best,
                    c.seconds,
                    "contender" if c.contends else "ruled out",
                    measure.interval(c.score, c.low, c.high),
                ]
                for i, c in places
            ],
            hovertemplate=(
                f"{family}, %{{customdata[0]}} labels: %{{customdata[4]}}<br>P(best) %{{customdata[1]:.2f}}, "
                "%{customdata[2]:.1f} s, %{customdata[3]}<extra></extra>"
            ),
            row=1,
            col=1,
        )
    shares = [[c.p_best if (c := _of(verdicts[size], family)) else None for size in sizes] for family in families]
    figure.add_heatmap(
        x=list(range(len(sizes))),
        y=families,
        z=shares,
        zmin=0,
        zmax=1,
        colorscale=[[0, "#ffffff"], [1, "#444444"]],
        text=[["" if p is None else f"{p:.2f}" for p in row] for row in shares],
        texttemplate="%{text}",
        showscale=False,
        xgap=2,
        ygap=2,
        hovertemplate="%{y}: P(best) %{z:.3f}<extra></extra>",
        row=2,
        col=1,
    )
    figure.update_layout(**LAYOUT, height=640)
    figure.update_yaxes(title_text=measure.title, row=1, col=1)
    figure.update_yaxes(autorange="reversed", title_text="P(best)", row=2, col=1)
    figure.update_xaxes(tickvals=list(range(len(sizes))), ticktext=[str(size) for size in sizes])
    figure.update_xaxes(title_text="labelled examples", row=2, col=1)
    return figure


def trends(results: Results, verdicts: Mapping[int, Verdict]) -> go.Figure:
    """How freeze depth, unfreeze epoch, LR ratio and head LR move with size: recommended, and the contenders."""
    sizes = sorted(verdicts)
    panels = {
        "freeze_depth": f"freeze depth (of {results.num_groups} groups)",
        "unfreeze_epoch": f"unfreeze epoch (of {results.spec.train.epochs})",
        "backbone_lr_ratio": "backbone LR ratio",
        "head_lr": "head LR",
    }
    figure = make_subplots(
        rows=4, cols=1, shared_xaxes=True, subplot_titles=list(panels.values()), vertical_spacing=0.07
    )
    for index, name in enumerate(panels, start=1):
        unused = results.num_groups if name in ("unfreeze_epoch", "backbone_lr_ratio") else None
        chosen = [(i, verdicts[size].recommended.strategy) for i, size in enumerate(sizes)]
        figure.add_scatter(
            x=[i for i, _ in chosen],
            y=[None if s.freeze_depth == unused else getattr(s, name) for _, s in chosen],
            name="recommended",
            mode="lines+markers",
            line={"color": "#000000", "width": 2},
            marker={"symbol": "circle", "size": 11},
            connectgaps=False,
            showlegend=index == 1,
            row=index,
            col=1,
        )
        others = [(i, c.strategy, c.family) for i, size in enumerate(sizes) for c in verdicts[size].contenders]
        others = [(i, s, family) for i, s, family in others if s.freeze_depth != unused]
        figure.add_scatter(
            x=[i for i, _, _ in others],
            y=[getattr(s, name) for _, s, _ in others],
            name="contenders",
            mode="markers",
            marker={"symbol": "circle-open", "size": 18, "color": "#D55E00", "line": {"width": 1.5}},
            text=[family for _, _, family in others],
            hovertemplate="%{text}: %{y}<extra></extra>",
            showlegend=index == 1,
            row=index,
            col=1,
        )
    epochs = results.spec.train.epochs
    figure.update_yaxes(range=[-0.15 * results.num_groups, 1.15 * results.num_groups], row=1, col=1)
    figure.update_yaxes(range=[-0.15 * epochs, 1.15 * epochs], row=2, col=1)
    for row, name in ((3, "backbone_lr_ratio"), (4, "head_lr")):
        values = [log10(getattr(c.strategy, name)) for size in sizes for c in verdicts[size].contenders]
        figure.update_yaxes(**_LOG, range=[min(values) - 0.4, max(values) + 0.4], row=row, col=1)
    figure.update_xaxes(tickvals=list(range(len(sizes))), ticktext=[str(size) for size in sizes])
    figure.update_xaxes(title_text="labelled examples", row=4, col=1)
    figure.update_layout(**{**LAYOUT, "legend": {"orientation": "h", "y": 1.06, "x": 0}}, height=820)
    return figure


def cost(verdicts: Mapping[int, Verdict]) -> go.Figure:
    """Seconds to train against test score: one point a finalist, labelled with its size."""
    figure = go.Figure()
    everyone = [(size, c) for size in sorted(verdicts) for c in verdicts[size].contestants]
    measure = verdicts[min(verdicts)].measure
    for family, (colour, _, symbol) in STYLES.items():
        places = [(size, c) for size, c in everyone if c.family == family]
        if not places:
            continue
        figure.add_scatter(
            x=[c.seconds for _, c in places],
            y=[measure.scale * c.score for _, c in places],
            name=family,
            mode="markers+text",
            text=[str(size) for size, _ in places],
            textposition="top center",
            textfont={"size": 10},
            marker={
                "symbol": [symbol if c.contends else f"{symbol}-open" for _, c in places],
                "color": colour,
                "size": 11,
                "line": {"width": 1.6, "color": colour},
            },
            customdata=[measure.interval(c.score, c.low, c.high) for _, c in places],
            hovertemplate=f"{family}, %{{text}} labels: %{{customdata}} in %{{x:.2f}} s<extra></extra>",
        )
    figure.update_layout(**LAYOUT, height=460)
    figure.update_xaxes(title_text="seconds to train", rangemode="tozero")
    figure.update_yaxes(title_text=measure.title)
    return figure


def history(rows: Sequence[Row], *, metric: str, maximize: bool) -> go.Figure:
    """What the search tried at one size, in order: value by trial, with the best so far."""
    figure = go.Figure()
    finished = [row for row in rows if row.value is not None]
    for family, (colour, _, symbol) in STYLES.items():
        ours = [row for row in finished if row.family == family]
        if not ours:
            continue
        figure.add_scatter(
            x=[row.number for row in ours],
            y=[row.value for row in ours],
            name=family,
            mode="markers",
            marker={
                "symbol": [f"{symbol}-open" if row.state == "PRUNED" else symbol for row in ours],
                "color": colour,
                "size": 10,
                "line": {"width": 1.4, "color": colour},
            },
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
    figure.update_yaxes(title_text=f"{metric}, best epoch", **(_LOG if metric == "val_loss" else {}))
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
    figure.update_yaxes(title_text=metric, **(_LOG if metric == "val_loss" else {}))
    return figure


def to_html(figure: go.Figure) -> str:
    """A figure as a part of a page that has plotly's script."""
    html: str = plotly.io.to_html(
        figure, full_html=False, include_plotlyjs=False, config={"responsive": True, "displayModeBar": False}
    )
    return html


def short(value: Any) -> str:
    """A parameter's value, as short as it can be read."""
    if isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else f"{value:.3g}"


def _of(verdict: Verdict, family: str) -> Contestant | None:
    return next((c for c in verdict.contestants if c.family == family), None)


def _brief(row: Row) -> str:
    return ", ".join(f"{name} {short(value)}" for name, value in row.strategy.to_params().items())
