"""The look that all figures share: colours, symbols, axes, and scores with their intervals."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import isfinite, log10
from typing import Any

from search.verdict.judge import Candidate
from search.verdict.metric import Metric
from strategies import Family, FreezingStrategy

# Okabe & Ito's colours, which colour-blind eyes tell apart; a dash and a symbol each for black and white.
STYLES: dict[str, tuple[str, str, str]] = {
    Family.LINEAR_PROBING: ("#0072B2", "dot", "circle"),
    Family.PARTIAL_FREEZING: ("#D55E00", "solid", "square"),
    Family.FULL_FINE_TUNING: ("#009E73", "dash", "diamond"),
    Family.FREEZE_THEN_UNFREEZE: ("#CC79A7", "dashdot", "triangle-up"),
    Family.GRADUAL_UNFREEZING: ("#56B4E9", "longdash", "triangle-down"),
    Family.FROM_SCRATCH: ("#000000", "longdashdot", "x"),
}
# Ticks at 1, 2 and 5, each written out; plotly's own "D2" shows a bare "5" for 0.0005.
LOG = {"type": "log", "tickvals": [d * 10.0**p for p in range(-12, 13) for d in (1, 2, 5)], "tickformat": "~g"}
LAYOUT: dict[str, Any] = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "margin": {"l": 60, "r": 15, "t": 25, "b": 50},
    "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
}


def size_axis(sizes: Sequence[int]) -> dict[str, Any]:
    """Return a logarithmic axis of ascending sizes, each named if there is room."""
    room = _room(sizes)
    named: list[int] = []
    for size in sizes:
        if not named or log10(size / named[-1]) > 0.4 * room:  # else the names would overlap
            named.append(size)
    ticks = {"tickvals": named, "ticktext": [str(size) for size in named], "showgrid": False}
    return {"type": "log", "range": [log10(sizes[0]) - room, log10(sizes[-1]) + room], "zeroline": False, **ticks}


def beside(sizes: Sequence[int], place: int, *, places: int) -> float:
    """Return the factor that moves a size aside, so that intervals do not overlap."""
    closest = min((log10(after / before) for before, after in pairwise(sizes)), default=0.2)
    return float(10 ** (min(0.5 * closest, 1.5 * _room(sizes)) * (place + 0.5 - places / 2) / places))


def value_axis(values: Iterable[float]) -> dict[str, Any]:
    """Return an axis, logarithmic for positive values that span more than a factor of five."""
    known = [value for value in values if isfinite(value)]
    return dict(LOG) if known and 0 < 5 * min(known) < max(known) else {}


def scores_of(metric: Metric, candidates: Sequence[Candidate | None]) -> dict[str, Any]:
    """Return scores and intervals as a scatter's `y` and `error_y`; None leaves a gap."""
    error = {
        "type": "data",
        "symmetric": False,
        "array": [c and metric.scale * (c.high - c.score) for c in candidates],
        "arrayminus": [c and metric.scale * (c.score - c.low) for c in candidates],
        "thickness": 1.2,
        "width": 3,
    }
    return {"y": [c and metric.scale * c.score for c in candidates], "error_y": error}


def marker(family: str, *, filled: Sequence[bool], size: int = 11) -> dict[str, Any]:
    """Return the family's symbol for each point, open where it is not `filled`."""
    colour, _, symbol = STYLES[family]
    symbols = [symbol if full else f"{symbol}-open" for full in filled]
    return {"symbol": symbols, "color": colour, "size": size, "line": {"width": 1.6, "color": colour}}


def two_lines(family: str) -> str:
    """Break a family's name into two lines, for narrow screens."""
    return family.replace("-", "-<br>", 1) if family.startswith("freeze") else family.replace(" ", "<br>", 1)


def params_text(strategy: FreezingStrategy) -> str:
    """Return a strategy's parameters in one line, as short as it can be read."""
    return ", ".join(f"{name} {_short(value)}" for name, value in strategy.to_params(defaults=False).items())


def _short(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else f"{value:.3g}"


def _room(sizes: Sequence[int]) -> float:
    return 0.09 * log10(sizes[-1] / sizes[0]) or 0.2
