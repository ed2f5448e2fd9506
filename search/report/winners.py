"""The answer as plotly figures: which strategy wins at which size, how sure that is, and how deep to freeze."""

from collections.abc import Mapping, Sequence
from html import escape
from math import log10

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from search.report.style import LAYOUT, LOG, STYLES, beside, intervals, marker, size_axis, two_lines, value_axis
from search.verdict.judge import Candidate, Verdict
from search.verdict.other_sizes import FrostLine
from search.verdict.results import Results

_ICE, _GROUND, _EDGE = "#9CCBE8", "#F1E3CC", "#5A3D1E"
_NAMES = 12
"""So many layer groups are named on the frost line's axis; of more, every second, third, ..."""


def strategy_map(verdicts: Mapping[int, Verdict]) -> go.Figure:
    """Family against size: a cell says P(best) in per cent and the status, as strong a colour as P(best) is high."""
    sizes, families = sorted(verdicts), families_of(verdicts)
    figure = go.Figure()
    for row, family in enumerate(families):
        there = [_of(verdicts[size], family) for size in sizes]
        figure.add_heatmap(
            x=list(range(len(sizes))),
            y=[row],
            z=[[c.p_best if c else None for c in there]],
            zmin=0,
            zmax=1,
            colorscale=[[0, "#f6f6f6"], [1, STYLES[family][0]]],
            text=[[_cell(verdicts[size], c) if c else "" for size, c in zip(sizes, there, strict=True)]],
            texttemplate="%{text}",
            textfont={"size": 14 if len(sizes) <= 8 else 11},
            customdata=[[status(verdicts[size], c) if c else "" for size, c in zip(sizes, there, strict=True)]],
            hovertemplate=f"{family}: P(best) %{{z:.3f}}, %{{customdata}}<extra></extra>",
            name=family,
            showscale=False,
            xgap=6,
            ygap=6,
        )
        for column, (size, c) in enumerate(zip(sizes, there, strict=True)):
            if c is None:
                lost = "✗" if family in verdicts[size].failed else "-"
                figure.add_annotation(x=column, y=row, text=lost, showarrow=False, font={"color": "#777777"})
            elif c is verdicts[size].recommended:
                place = {"x0": column - 0.5, "x1": column + 0.5, "y0": row - 0.5, "y1": row + 0.5}
                figure.add_shape(type="rect", **place, line={"color": "#000000", "width": 3})
    figure.update_layout(**{**LAYOUT, "margin": {"l": 60, "r": 5, "t": 10, "b": 45}}, height=70 + 52 * len(families))
    names = [two_lines(family) for family in families]
    figure.update_yaxes(autorange="reversed", tickvals=list(range(len(families))), ticktext=names)
    figure.update_xaxes(
        title_text="labelled examples", tickvals=list(range(len(sizes))), ticktext=list(map(str, sizes))
    )
    figure.update_xaxes(showgrid=False, zeroline=False)
    figure.update_yaxes(showgrid=False, zeroline=False)
    return figure


def scores(verdicts: Mapping[int, Verdict]) -> go.Figure:
    """Test score against size with 90 % intervals; contenders are filled."""
    sizes, families = sorted(verdicts), families_of(verdicts)
    metric = verdicts[sizes[0]].metric
    figure = go.Figure()
    for place, family in enumerate(families):
        colour, dash, _ = STYLES[family]
        there = [(size, c) for size in sizes if (c := _of(verdicts[size], family)) is not None]
        apart = beside(sizes, place, places=len(families))
        figure.add_scatter(
            x=[size * apart for size, _ in there],
            y=[metric.scale * c.score for _, c in there],
            error_y=intervals(metric, [c for _, c in there]),
            name=family,
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 1.6},
            marker=marker(family, filled=[c.contends for _, c in there]),
            customdata=[
                [size, metric.interval(c.score, c.low, c.high), c.p_best, c.seconds, status(verdicts[size], c)]
                for size, c in there
            ],
            hovertemplate=(
                f"{family}, %{{customdata[0]}} labels: %{{customdata[1]}}<br>P(best) %{{customdata[2]:.2f}}, "
                "%{customdata[3]:.1f} s, %{customdata[4]}<extra></extra>"
            ),
        )
    figure.update_layout(**LAYOUT, height=460)
    drawn = [metric.scale * c.score for verdict in verdicts.values() for c in verdict.candidates]
    figure.update_yaxes(title_text=metric.title, **({} if metric.percent else value_axis(drawn)))
    figure.update_xaxes(**size_axis(sizes), title_text="labelled examples")
    return figure


def frost(line: FrostLine, groups: Sequence[str]) -> go.Figure:
    """Freeze depth against size as ground under frost: the layer groups downwards from the input, the head lowest.

    `groups` are the layer groups' names, input side first; empty where they are not known.
    """
    axis = size_axis(line.sizes)
    ends = [10 ** axis["range"][0], 10 ** axis["range"][1]]
    sizes = [ends[0], *line.sizes, ends[1]]

    def across(depths: Sequence[int]) -> list[int]:
        return [depths[0], *depths, depths[-1]]

    def edge(depths: Sequence[int], **style: object) -> None:
        figure.add_scatter(x=sizes, y=across(depths), mode="lines", hoverinfo="skip", **style)

    figure = go.Figure()
    bare = {"line": {"width": 0}, "showlegend": False}
    edge([0] * len(line.sizes), **bare)
    edge(line.recommended, name="frozen throughout", fill="tonexty", fillcolor=_ICE, line={"width": 0})
    edge([line.num_groups + 1] * len(line.sizes), name="trains", fill="tonexty", fillcolor=_GROUND, line={"width": 0})
    for border in range(1, line.num_groups + 1):
        edge([border] * len(line.sizes), line={"color": "#ffffff", "width": 1}, showlegend=False)
    edge(line.lowest, **bare)
    hatch = {"shape": "/", "fgcolor": _EDGE, "fgopacity": 0.35, "size": 9, "solidity": 0.15, "bgcolor": "rgba(0,0,0,0)"}
    edge(
        line.highest,
        name="near-optimal",
        fill="tonexty",
        fillpattern=hatch,
        fillcolor="rgba(0,0,0,0)",
        line={"width": 0},
    )
    if line.line:
        x, y = zip(*line.line, strict=True)
        trend = {"color": _EDGE, "width": 1.5, "dash": "dash"}
        figure.add_scatter(x=x, y=y, name="their middle", mode="lines", line=trend, hoverinfo="skip")
    figure.add_scatter(
        x=line.sizes,
        y=line.recommended,
        name="recommended",
        mode="lines+markers",
        line={"color": "#000000", "width": 2.5},
        marker={"symbol": "circle", "size": 12, "color": "#000000"},
        cliponaxis=False,
        customdata=[
            f"{low}" if low == high else f"{low}-{high}" for low, high in zip(line.lowest, line.highest, strict=True)
        ],
        hovertemplate="%{x} labels: freeze depth %{y}, near-optimal %{customdata}<extra></extra>",
    )
    names = list(groups) or [f"group {index + 1}" for index in range(line.num_groups)]
    every = -(-len(names) // _NAMES)
    ticks = {index + 0.5: _clipped(name) for index, name in enumerate(names) if index % every == 0}
    ticks[line.num_groups + 0.5] = "<b>head</b>"
    legend = {**LAYOUT["legend"], "traceorder": "normal"}
    figure.update_layout(
        **{**LAYOUT, "legend": legend}, height=230 + max(40, min(52, 500 // line.num_groups)) * min(line.num_groups, 10)
    )
    figure.update_yaxes(range=[line.num_groups + 1, 0], tickvals=list(ticks), ticktext=list(ticks.values()))
    figure.update_yaxes(showgrid=False, zeroline=False, title_text="input → head")
    figure.update_xaxes(**axis, title_text="labelled examples")
    return figure


def trends(results: Results, verdicts: Mapping[int, Verdict]) -> go.Figure:
    """How unfreeze epoch, LR ratio and head LR move with size: recommended, and the contenders."""
    sizes = sorted(verdicts)
    panels = {
        "unfreeze_epoch": f"unfreeze epoch (of {results.spec.train.epochs})",
        "backbone_lr_ratio": "backbone LR ratio",
        "head_lr": "head LR",
    }
    figure = make_subplots(
        rows=3, cols=1, shared_xaxes=True, subplot_titles=list(panels.values()), vertical_spacing=0.09
    )
    for index, name in enumerate(panels, start=1):
        unused = results.num_groups if name in ("unfreeze_epoch", "backbone_lr_ratio") else None
        chosen = [(size, verdicts[size].recommended.strategy) for size in sizes]
        figure.add_scatter(
            x=[size for size, _ in chosen],
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
        others = [(size, c.strategy, c.family) for size in sizes for c in verdicts[size].contenders]
        others = [(size, s, family) for size, s, family in others if s.freeze_depth != unused]
        figure.add_scatter(
            x=[size for size, _, _ in others],
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
    figure.update_yaxes(range=[-0.15 * epochs, 1.15 * epochs], row=1, col=1)
    for row, name in ((2, "backbone_lr_ratio"), (3, "head_lr")):
        values = [log10(getattr(c.strategy, name)) for size in sizes for c in verdicts[size].contenders]
        figure.update_yaxes(**LOG, range=[min(values) - 0.4, max(values) + 0.4], row=row, col=1)
    figure.update_xaxes(**size_axis(sizes))
    figure.update_xaxes(title_text="labelled examples", row=3, col=1)
    figure.update_layout(**{**LAYOUT, "legend": {"orientation": "h", "y": 1.1, "x": 0}}, height=640)
    return figure


def families_of(verdicts: Mapping[int, Verdict]) -> list[str]:
    """The families that a verdict judges or has seen fail, in the order of `STYLES`."""
    seen = {name for v in verdicts.values() for name in (*v.failed, *(c.family for c in v.candidates))}
    return [family for family in STYLES if family in seen]


def status(verdict: Verdict, candidate: Candidate) -> str:
    """Winner, recommended, contender or ruled out, in words."""
    if candidate is verdict.winner:
        return "winner"
    if candidate is verdict.recommended:
        return "contender, recommended"
    return "contender" if candidate.contends else "ruled out"


def _cell(verdict: Verdict, candidate: Candidate) -> str:
    sign = "★" if candidate is verdict.winner else "●" if candidate.contends else "○"
    return f"<b>{100 * candidate.p_best:.0f}</b><br>{sign}"


def _of(verdict: Verdict, family: str) -> Candidate | None:
    return next((c for c in verdict.candidates if c.family == family), None)


def _clipped(name: str) -> str:
    # The end of a long name tells it from the others. Plotly reads a few HTML tags in its texts.
    return escape(name if len(name) <= 13 else f"…{name[-12:]}", quote=False)
