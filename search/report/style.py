"""How the figures look, and what they share: colours, axes, and the way into a page."""

from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise
from math import isfinite, log10
from typing import Any

import plotly.graph_objects as go
import plotly.io

from search.verdict.judge import Candidate
from search.verdict.metric import Metric
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
# ProgressCallback at 1, 2 and 5, each written out; plotly's own "D2" says a bare "5" for 0.0005.
LOG = {"type": "log", "tickvals": [d * 10.0**p for p in range(-12, 13) for d in (1, 2, 5)], "tickformat": "~g"}
LAYOUT: dict[str, Any] = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "margin": {"l": 60, "r": 15, "t": 40, "b": 50},
    "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
}
_SIGNS = {"circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲", "triangle-down": "▼", "x": "✖"}


def size_axis(sizes: Sequence[int]) -> dict[str, Any]:
    """An axis of ascending sizes, logarithmic, with a tick at each that has the place, and room at both ends."""
    room = _room(sizes)
    named: list[int] = []
    for size in sizes:
        if not named or log10(size / named[-1]) > 0.4 * room:  # else the names would overlap
            named.append(size)
    ticks = {"tickvals": named, "ticktext": [str(size) for size in named], "showgrid": False}
    return {"type": "log", "range": [log10(sizes[0]) - room, log10(sizes[-1]) + room], "zeroline": False, **ticks}


def beside(sizes: Sequence[int], place: int, *, places: int) -> float:
    """What a size is multiplied by, so that intervals at the same size do not hide each other."""
    closest = min((log10(after / before) for before, after in pairwise(sizes)), default=0.2)
    return float(10 ** (min(0.5 * closest, 1.5 * _room(sizes)) * (place + 0.5 - places / 2) / places))


def value_axis(values: Iterable[float]) -> dict[str, Any]:
    """An axis of values: logarithmic where they are positive and the largest is more than five times the least."""
    known = [value for value in values if isfinite(value)]
    return dict(LOG) if known and 0 < 5 * min(known) < max(known) else {}


def intervals(metric: Metric, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """The 90 % intervals of scores, as plotly's error bars."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [metric.scale * (c.high - c.score) for c in candidates],
        "arrayminus": [metric.scale * (c.score - c.low) for c in candidates],
        "thickness": 1.2,
        "width": 3,
    }


def marker(family: str, *, filled: Sequence[bool], size: int = 11) -> dict[str, Any]:
    """A family's symbol, once a point, open where it is not `filled`."""
    colour, _, symbol = STYLES[family]
    symbols = [symbol if full else f"{symbol}-open" for full in filled]
    return {"symbol": symbols, "color": colour, "size": size, "line": {"width": 1.6, "color": colour}}


def two_lines(family: str) -> str:
    """A family's name in two lines, for narrow screens."""
    return family.replace("-", "-<br>", 1) if family.startswith("freeze") else family.replace(" ", "<br>", 1)


def legend(families: Iterable[str]) -> str:
    """The families' symbols as a line of HTML, for several figures at once."""
    items = (
        f'<span><b style="color:{STYLES[family][0]}">{_SIGNS[STYLES[family][2]]}</b> {escape(family)}</span>'
        for family in families
    )
    return f'<p class="legend">{" ".join(items)}</p>'


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


def _room(sizes: Sequence[int]) -> float:
    return 0.09 * log10(sizes[-1] / sizes[0]) or 0.2
