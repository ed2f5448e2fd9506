"""Figures of the answer: the winner at each size, its certainty, and the freeze depth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log10
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from search.report.markup import plain
from search.report.style import LAYOUT, LOG, STYLES, beside, marker, score_axis, scores_of, size_axis, two_lines
from search.verdict.judge import Candidate, Verdict
from search.verdict.other_sizes import FrostLine, frost_line
from search.verdict.results import Results

_ICE, _GROUND, _EDGE = "#9CCBE8", "#F1E3CC", "#5A3D1E"
MAX_GROUPS_NAMED = 12
"""Layer groups named on the frost line's axis; of more, every second, third, ..."""
MAX_NAME_LENGTH = 13
"""Characters of a layer group's name on that axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A family at a size on the strategy map; `p_best` is None without a candidate."""

    p_best: float | None
    text: str
    status: str
    recommended: bool


def strategy_map_info(verdicts: Mapping[int, Verdict]) -> dict[str, dict[int, Cell]]:
    """Return the cells of the strategy map by family and size, in drawing order."""
    return {
        family: {size: _cell(verdicts[size], family) for size in sorted(verdicts)} for family in families_of(verdicts)
    }


def strategy_map(verdicts: Mapping[int, Verdict]) -> go.Figure:
    """Draw family against size: P(best) in per cent, also by colour, and the status."""
    figure, info, sizes = go.Figure(), strategy_map_info(verdicts), sorted(verdicts)
    for row, (family, cells) in enumerate(info.items()):
        figure.add_heatmap(
            x=list(range(len(sizes))), y=[row], z=[[cell.p_best for cell in cells.values()]], zmin=0, zmax=1,
            colorscale=[[0, "#f6f6f6"], [1, STYLES[family][0]]],
            text=[["" if cell.p_best is None else cell.text for cell in cells.values()]], texttemplate="%{text}",
            textfont={"size": 14 if len(sizes) <= 8 else 11}, customdata=[[cell.status for cell in cells.values()]],
            hovertemplate=f"{family}: P(best) %{{z:.3f}}, %{{customdata}}<extra></extra>", name=family,
            showscale=False, xgap=6, ygap=6,
        )  # fmt: skip
        for column, cell in enumerate(cells.values()):
            if cell.p_best is None:
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
    """Draw test score against size with 90 % intervals; contenders are filled."""
    sizes, families = sorted(verdicts), families_of(verdicts)
    metric = verdicts[sizes[0]].metric
    figure = go.Figure()
    for place, family in enumerate(families):
        colour, dash, _ = STYLES[family]
        found = [(size, c) for size in sizes if (c := _of(verdicts[size], family)) is not None]
        apart = beside(sizes, place, places=len(families))
        figure.add_scatter(
            x=[size * apart for size, _ in found], **scores_of(metric, [c for _, c in found]), name=family,
            mode="lines+markers", line={"color": colour, "dash": dash, "width": 1.6},
            marker=marker(family, filled=[c.contends for _, c in found]),
            customdata=[
                [size, metric.interval(c.score, c.low, c.high), c.p_best, c.seconds, status(verdicts[size], c)]
                for size, c in found
            ],
            hovertemplate=(
                f"{family}, %{{customdata[0]}} labels: %{{customdata[1]}}<br>P(best) %{{customdata[2]:.2f}}, "
                "%{customdata[3]:.1f} s, %{customdata[4]}<extra></extra>"
            ),
        )  # fmt: skip
    figure.update_layout(**LAYOUT, height=460)
    figure.update_yaxes(**score_axis(metric, [c for verdict in verdicts.values() for c in verdict.candidates]))
    return figure.update_xaxes(**size_axis(sizes), title_text="labelled examples")


def frost(results: Results, verdicts: Mapping[int, Verdict]) -> go.Figure:
    """Draw freeze depth against size as ground under frost."""
    return frost_figure(frost_line(verdicts, num_groups=results.num_groups), results.groups)


def frost_figure(line: FrostLine, groups: Sequence[str]) -> go.Figure:
    """Draw the layer groups downwards from the input, the head lowest.

    groups: the layer groups' names, input side first; empty where they are not known.
    """
    figure, axis = go.Figure(), size_axis(line.sizes)
    sizes = [10 ** axis["range"][0], *line.sizes, 10 ** axis["range"][1]]

    def edge(depths: Sequence[int], **style: object) -> None:
        figure.add_scatter(
            x=sizes, y=[depths[0], *depths, depths[-1]], mode="lines", hoverinfo="skip",
            **{"line": {"width": 0}, **style},
        )  # fmt: skip

    edge([0] * len(line.sizes), showlegend=False)
    edge(line.recommended, name="frozen throughout", fill="tonexty", fillcolor=_ICE)
    edge([line.num_groups + 1] * len(line.sizes), name="trains", fill="tonexty", fillcolor=_GROUND)
    for border in range(1, line.num_groups + 1):
        edge([border] * len(line.sizes), line={"color": "#ffffff", "width": 1}, showlegend=False)
    clear = "rgba(0,0,0,0)"
    hatch = {"shape": "/", "fgcolor": _EDGE, "fgopacity": 0.35, "size": 9, "solidity": 0.15, "bgcolor": clear}
    edge(line.lowest, showlegend=False)
    edge(line.highest, name="near-optimal", fill="tonexty", fillpattern=hatch, fillcolor=clear)
    if line.line:
        x, y = zip(*line.line, strict=True)
        trend = {"color": _EDGE, "width": 1.5, "dash": "dash"}
        figure.add_scatter(x=x, y=y, name="their middle", mode="lines", line=trend, hoverinfo="skip")
    figure.add_scatter(
        x=line.sizes, y=line.recommended, name="recommended", mode="lines+markers",
        line={"color": "#000000", "width": 2.5}, marker={"symbol": "circle", "size": 12, "color": "#000000"},
        customdata=[f"{a}" if a == b else f"{a}-{b}" for a, b in zip(line.lowest, line.highest, strict=True)],
        hovertemplate="%{x} labels: freeze depth %{y}, near-optimal %{customdata}<extra></extra>", cliponaxis=False,
    )  # fmt: skip
    ticks = _group_ticks(line.num_groups, groups)
    height = 230 + max(40, min(52, 500 // line.num_groups)) * min(line.num_groups, 10)
    figure.update_layout(**{**LAYOUT, "legend": {**LAYOUT["legend"], "traceorder": "normal"}}, height=height)
    figure.update_yaxes(range=[line.num_groups + 1, 0], tickvals=list(ticks), ticktext=list(ticks.values()))
    figure.update_yaxes(showgrid=False, zeroline=False, title_text="input → head")
    return figure.update_xaxes(**axis, title_text="labelled examples")


def _group_ticks(num_groups: int, groups: Sequence[str]) -> dict[float, str]:
    names = list(groups) or [f"group {index + 1}" for index in range(num_groups)]
    every = -(-len(names) // MAX_GROUPS_NAMED)
    # Cut at the front: the end of a long name tells it from the others.
    short = [name if len(name) <= MAX_NAME_LENGTH else f"…{name[1 - MAX_NAME_LENGTH :]}" for name in names]
    named = {index + 0.5: plain(name) for index, name in enumerate(short) if index % every == 0}
    return {**named, num_groups + 0.5: "<b>head</b>"}


def trends(results: Results, verdicts: Mapping[int, Verdict]) -> go.Figure:
    """Draw unfreeze epoch, LR ratio and head LR against the size.

    Those of the recommended and of all contending strategies.
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
            x=[size for size, _ in used], y=[getattr(c.strategy, name) for _, c in used], name="contenders",
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
    return figure.update_layout(**{**LAYOUT, "legend": {"orientation": "h", "y": 1.1, "x": 0}}, height=640)


def families_of(verdicts: Mapping[int, Verdict]) -> list[str]:
    """Return the families that a verdict judges or lists as failed, in `STYLES`' order."""
    seen = {name for v in verdicts.values() for name in (*v.failed, *(c.family for c in v.candidates))}
    return [family for family in STYLES if family in seen]


def status(verdict: Verdict, candidate: Candidate) -> str:
    """Return "winner", "contender", "contender, recommended" or "ruled out"."""
    if verdict.winner is not None and candidate.strategy == verdict.winner.strategy:
        return "winner"
    if candidate.strategy == verdict.recommended.strategy:
        return "contender, recommended"
    return "contender" if candidate.contends else "ruled out"


def _cell(verdict: Verdict, family: str) -> Cell:
    candidate = _of(verdict, family)
    if candidate is None:
        return Cell(p_best=None, text="✗" if family in verdict.failed else "-", status="", recommended=False)
    sign = "★" if candidate == verdict.winner else "●" if candidate.contends else "○"
    return Cell(
        p_best=candidate.p_best, text=f"<b>{100 * candidate.p_best:.0f}</b><br>{sign}",
        status=status(verdict, candidate), recommended=family == verdict.recommended.family,
    )  # fmt: skip


def _of(verdict: Verdict, family: str) -> Candidate | None:
    return next((c for c in verdict.candidates if c.family == family), None)
