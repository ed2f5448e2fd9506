"""Figures of the answer: the families at each size, their scores and rates."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log10
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from search.report.score_axis import informative, mark_worse, score_axis
from search.report.style import LAYOUT, LOG, STYLES, beside, marker, scores_of, size_axis, two_lines
from search.verdict.judge import Candidate, Verdict
from search.verdict.results import Results

AS_GOOD, WORSE = "as good as the best", "worse"
"""A contender, and a candidate that is ruled out, in the words of a reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A family at a size on the strategy map.

    p_within_margin: that of the family's likeliest candidate; None without one.
    """

    p_within_margin: float | None
    text: str
    status: str
    recommended: bool


def strategy_map_info(verdicts: Mapping[int, Verdict]) -> dict[str, dict[int, Cell]]:
    """Return the cells of the strategy map by family and size, in drawing order."""
    return {
        family: {size: _cell(verdicts[size], family) for size in sorted(verdicts)} for family in families_of(verdicts)
    }


def strategy_map(verdicts: Mapping[int, Verdict]) -> go.Figure:
    """Draw family against size: P(within the margin) in per cent and colour, and the status."""
    figure, info, sizes = go.Figure(), strategy_map_info(verdicts), sorted(verdicts)
    for row, (family, cells) in enumerate(info.items()):
        figure.add_heatmap(
            x=list(range(len(sizes))), y=[row], z=[[cell.p_within_margin for cell in cells.values()]], zmin=0, zmax=1,
            colorscale=[[0, "#f6f6f6"], [1, STYLES[family][0]]],
            text=[["" if cell.p_within_margin is None else cell.text for cell in cells.values()]],
            texttemplate="%{text}",
            textfont={"size": 14 if len(sizes) <= 8 else 11}, customdata=[[cell.status for cell in cells.values()]],
            hovertemplate=f"{family}: P(within the margin) %{{z:.2f}}, %{{customdata}}<extra></extra>", name=family,
            showscale=False, xgap=6, ygap=6,
        )  # fmt: skip
        for column, cell in enumerate(cells.values()):
            if cell.p_within_margin is None:
                figure.add_annotation(x=column, y=row, text=cell.text, showarrow=False, font={"color": "#777777"})
            if cell.recommended:
                place = {"x0": column - 0.5, "x1": column + 0.5, "y0": row - 0.5, "y1": row + 0.5}
                figure.add_shape(type="rect", **place, line={"color": "#000000", "width": 3})
    figure.update_layout(**{**LAYOUT, "margin": {"l": 60, "r": 5, "t": 10, "b": 45}}, height=70 + 52 * len(info))
    names = [two_lines(family) for family in info]
    figure.update_yaxes(autorange="reversed", tickvals=list(range(len(names))), ticktext=names)
    ticks = {"tickvals": list(range(len(sizes))), "ticktext": list(map(str, sizes))}
    figure.update_xaxes(title_text="labelled examples", **ticks)
    return figure.update_xaxes(showgrid=False, zeroline=False).update_yaxes(showgrid=False, zeroline=False)


def scores(verdicts: Mapping[int, Verdict]) -> go.Figure:
    """Draw test score against size with 90 % intervals. Open markers are worse."""
    sizes, families = sorted(verdicts), families_of(verdicts)
    metric, figure = verdicts[sizes[0]].metric, go.Figure()
    shown = {size: informative(verdicts[size], verdicts[size].candidates) for size in sizes}
    axis = score_axis(metric, [c for own in shown.values() for c in own])
    for place, family in enumerate(families):
        colour, dash, _ = STYLES[family]
        found = [(size, c) for size in sizes if (c := _of(verdicts[size], family)) is not None]
        apart = beside(sizes, place, places=len(families))
        inside = [(size, c if c in shown[size] else None) for size, c in found]
        figure.add_scatter(
            x=[size * apart for size, _ in inside], **scores_of(metric, [c for _, c in inside]), name=family,
            mode="lines+markers", line={"color": colour, "dash": dash, "width": 1.6},
            marker=marker(family, filled=[c.contends for _, c in found]),
            customdata=[
                [size, metric.interval(c.score, c.low, c.high), c.p_within_margin, status(verdicts[size], c)]
                for size, c in found
            ],
            hovertemplate=(
                f"{family}, %{{customdata[0]}} labels: %{{customdata[1]}}<br>"
                "P(within the margin) %{customdata[2]:.2f}, %{customdata[3]}<extra></extra>"
            ),
        )  # fmt: skip
        mark_worse(figure, metric, axis, [(size * apart, c) for size, c in found if c not in shown[size]])
    figure.update_layout(**LAYOUT, height=460)
    figure.update_yaxes(**axis)
    return figure.update_xaxes(**size_axis(sizes), title_text="labelled examples")


def trends(results: Results, verdicts: Mapping[int, Verdict]) -> go.Figure:
    """Draw unfreeze epoch, LR ratio and head LR against the size.

    Those of the recommended strategies, and of all that are as good as the best.
    """
    epochs, ordered = results.spec.train.epochs, sorted(verdicts.items())
    names = ("unfreeze_epoch", "backbone_lr_ratio", "head_lr")
    titles = (f"unfreeze epoch (of {epochs})", "backbone LR ratio", "head LR")
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, subplot_titles=titles, vertical_spacing=0.09)
    contenders = [(size, c) for size, verdict in ordered for c in verdict.every_candidate if c.contends]
    for row, name in enumerate(names, start=1):
        unused = results.num_groups if name != "head_lr" else None  # the depth at which it means nothing
        chosen = [(size, verdict.recommended.strategy) for size, verdict in ordered]
        figure.add_scatter(
            x=[size for size, _ in chosen],
            y=[None if s.freeze_depth == unused else getattr(s, name) for _, s in chosen], name="recommended",
            mode="lines+markers", line={"color": "#000000", "width": 2}, marker={"symbol": "circle", "size": 11},
            connectgaps=False, showlegend=row == 1, row=row, col=1,
        )  # fmt: skip
        used = [(size, c) for size, c in contenders if c.strategy.freeze_depth != unused]
        figure.add_scatter(
            x=[size for size, _ in used], y=[getattr(c.strategy, name) for _, c in used], name="as good as the best",
            mode="markers", marker={"symbol": "circle-open", "size": 18, "color": "#D55E00", "line": {"width": 1.5}},
            text=[c.family for _, c in used], hovertemplate="%{text}: %{y}<extra></extra>", showlegend=row == 1,
            row=row, col=1,
        )  # fmt: skip
        values = [getattr(c.strategy, name) for _, c in contenders]
        axis: dict[str, Any] = {"range": [-0.15 * epochs, 1.15 * epochs]}
        if row > 1:
            axis = LOG | {"range": [log10(min(values)) - 0.4, log10(max(values)) + 0.4]}
        figure.update_yaxes(**axis, row=row, col=1)
    figure.update_xaxes(**size_axis(sorted(verdicts)))
    figure.update_xaxes(title_text="labelled examples", row=3, col=1)
    return figure.update_layout(**LAYOUT, height=600)


def families_of(verdicts: Mapping[int, Verdict]) -> list[str]:
    """Return the families that a verdict judges or lists as failed, in `STYLES`' order."""
    seen = {name for v in verdicts.values() for name in (*v.failed, *(c.family for c in v.candidates))}
    return [family for family in STYLES if family in seen]


def status(verdict: Verdict, candidate: Candidate) -> str:
    """Return "winner", "as good as the best", "as good as the best, recommended" or "worse"."""
    if verdict.winner is not None and candidate.strategy == verdict.winner.strategy:
        return "winner"
    if candidate.strategy == verdict.recommended.strategy:
        return f"{AS_GOOD}, recommended"
    return AS_GOOD if candidate.contends else WORSE


def _cell(verdict: Verdict, family: str) -> Cell:
    candidate = _of(verdict, family)
    if candidate is None:
        text = "✗" if family in verdict.failed else "-"
        return Cell(p_within_margin=None, text=text, status="", recommended=False)
    sign = "★" if candidate == verdict.winner else "●" if candidate.contends else "○"
    likeliest = max(c.p_within_margin for c in (candidate, *verdict.every_candidate) if c.family == family)
    return Cell(
        p_within_margin=likeliest, text=f"<b>{100 * likeliest:.0f}</b><br>{sign}",
        status=status(verdict, candidate), recommended=family == verdict.recommended.family,
    )  # fmt: skip


def _of(verdict: Verdict, family: str) -> Candidate | None:
    return next((c for c in verdict.candidates if c.family == family), None)
