"""HTML from templates and figures: here every text of a study is escaped."""

from html import escape, unescape
from typing import Any

import plotly.graph_objects as go
import plotly.io
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_TEMPLATES = Environment(
    loader=PackageLoader("search.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_SIGNS = {
    "circle": "●",
    "square": "■",
    "diamond": "◆",
    "triangle-up": "▲",
    "triangle-down": "▼",
    "x": "✖",
    "line-ns": "|",
}
_DASHES = {"dash": "╌╌", "dot": "┈┈", "dashdot": "─·"}


def fill(template: str, **values: object) -> Markup:
    """Fill a template with values, of which all but `Markup` are escaped."""
    return Markup(_TEMPLATES.get_template(template).render(values))


def to_html(figure: go.Figure) -> Markup:
    """Return a figure under its legend, for a page with plotly's script."""
    return legend(figure) + without_legend(figure)


def without_legend(figure: go.Figure) -> Markup:
    """Return a figure for a page with plotly's script. plotly escapes its JSON."""
    config = {"responsive": True, "displayModeBar": False}
    bare = go.Figure(figure).update_layout(showlegend=False)
    return Markup(plotly.io.to_html(bare, full_html=False, include_plotlyjs=False, config=config))


def legend(*figures: go.Figure) -> Markup:
    """Return the legend of figures as text, which a narrow screen wraps.

    plotly's own takes its room from the figure, and on a phone all of it.
    """
    named = {
        unescape(trace.name): _key(trace)
        for figure in figures
        for trace in figure.data
        if trace.name and trace.type == "scatter" and trace.showlegend is not False
    }
    if len(named) < 2:
        return Markup()
    entry = Markup('<span><b style="color:{}">{}</b> {}</span>')
    entries = Markup("\n").join(entry.format(colour, sign, name) for name, (colour, sign) in named.items())
    return Markup('<p class="legend">{}</p>').format(entries)


def plain(text: str) -> str:
    """Escape a text for a figure: plotly reads some HTML tags in its texts."""
    return escape(text, quote=False)


def _key(trace: Any) -> tuple[str, str]:
    """Return a trace's colour and sign."""
    if trace.fillpattern.shape:
        return trace.fillpattern.fgcolor, "▨"
    if trace.fill:
        return trace.fillcolor, "■"
    if "markers" in trace.mode:
        symbols = trace.marker.symbol
        if symbols == "circle-open":  # a ring around others
            return trace.marker.color, "○"
        symbol = symbols if isinstance(symbols, str) else symbols[0] if symbols else "circle"
        return trace.marker.color, _SIGNS[symbol.removesuffix("-open")]
    return trace.line.color, _DASHES.get(trace.line.dash, "—")
