"""The frost line: the layer groups that stay frozen at each size."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from search.report.markup import plain
from search.report.style import LAYOUT, size_axis
from search.verdict.judge import Verdict
from search.verdict.other_sizes import FrostLine, frost_line
from search.verdict.results import Results

_ICE, _GROUND, _EDGE = "#9CCBE8", "#F1E3CC", "#5A3D1E"
MAX_GROUPS_NAMED = 12
"""Layer groups named on the axis; of more, every second, third, ..."""
MAX_NAME_LENGTH = 13
"""Characters of a layer group's name on that axis."""


def frost(results: Results, verdicts: Mapping[int, Verdict]) -> go.Figure | None:
    """Draw freeze depth against size as ground under frost; None if noise covers it all."""
    line = frost_line(verdicts, num_groups=results.num_groups)
    return None if all(line.covered) else frost_figure(line, results.groups)


def frost_sentence(results: Results, verdicts: Mapping[int, Verdict]) -> str:
    """Return a sentence on the sizes where noise covers every depth; empty without any."""
    line = frost_line(verdicts, num_groups=results.num_groups)
    sizes = [str(size) for size, covered in zip(line.sizes, line.covered, strict=True) if covered]
    if not sizes:
        return ""
    return f"At {', '.join(sizes)} labels the noise can't tell any freeze depth from the best, so there is no line."


def frost_figure(line: FrostLine, groups: Sequence[str]) -> go.Figure:
    """Draw the layer groups downwards from the input, the head lowest; the line in steps.

    groups: the layer groups' names, input side first; empty where they are not known.
    """
    figure, axis = go.Figure(), size_axis(line.sizes)
    ends = [10**end for end in axis["range"]]

    def edge(depths: Iterable[int], **style: Any) -> None:
        inner = list(depths)
        outline = {"width": 0, **style.pop("line", {}), "shape": "hvh"}
        figure.add_scatter(
            x=[ends[0], *line.sizes, ends[1]], y=[inner[0], *inner, inner[-1]], mode="lines", hoverinfo="skip",
            line=outline, **style,
        )  # fmt: skip

    clear = "rgba(0,0,0,0)"
    hatch = {"shape": "/", "fgcolor": _EDGE, "fgopacity": 0.35, "size": 9, "solidity": 0.15, "bgcolor": clear}
    edge([0] * len(line.sizes), showlegend=False)
    edge(line.lowest, name="frozen", fill="tonexty", fillcolor=_ICE)
    edge(line.highest, name="near-optimal depths", fill="tonexty", fillpattern=hatch, fillcolor=clear)
    edge([line.num_groups + 1] * len(line.sizes), name="trains", fill="tonexty", fillcolor=_GROUND)
    for border in range(1, line.num_groups + 1):
        edge([border] * len(line.sizes), line={"color": "#dddddd", "width": 1}, showlegend=False)
    for piece in (piece for piece in line.pieces if len(piece) > 1 or len(line.sizes) == 1):
        x, y = [line.sizes[place] for place in piece], [line.recommended[place] for place in piece]
        if piece[0] == 0:
            x, y = [ends[0], *x], [y[0], *y]
        if piece[-1] == len(line.sizes) - 1:
            x, y = [*x, ends[1]], [*y, y[-1]]
        step = {"color": "#000000", "width": 2.5, "shape": "hvh"}
        figure.add_scatter(x=x, y=y, mode="lines", line=step, showlegend=False, hoverinfo="skip")
    figure.add_scatter(
        x=line.sizes, y=line.recommended, name="recommended", mode="markers",
        marker={"symbol": "circle", "size": 12, "color": "#000000"},
        customdata=[f"{a}" if a == b else f"{a}-{b}" for a, b in zip(line.lowest, line.highest, strict=True)],
        hovertemplate="%{x} labels: freeze depth %{y}, near-optimal %{customdata}<extra></extra>", cliponaxis=False,
    )  # fmt: skip
    ticks = _group_ticks(line.num_groups, groups)
    height = 130 + max(40, min(52, 500 // line.num_groups)) * min(line.num_groups, 10)
    figure.update_layout(**LAYOUT, height=height)
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
