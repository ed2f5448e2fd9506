"""HTML from templates and figures: here every text of a study is escaped."""

from html import escape

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


def fill(template: str, **values: object) -> Markup:
    """Fill a template with values, of which all but `Markup` are escaped."""
    return Markup(_TEMPLATES.get_template(template).render(values))


def to_html(figure: go.Figure) -> Markup:
    """Return a figure for a page with plotly's script; plotly escapes its JSON."""
    config = {"responsive": True, "displayModeBar": False}
    return Markup(plotly.io.to_html(figure, full_html=False, include_plotlyjs=False, config=config))


def plain(text: str) -> str:
    """Escape a text for a figure: plotly reads some HTML tags in its texts."""
    return escape(text, quote=False)
