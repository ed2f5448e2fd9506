"""Figures of a page, and their legends as text."""

import plotly.graph_objects as go

from search.report.markup import legend, plain, to_html, without_legend


def figure(*names):
    drawn = go.Figure()
    for name in names:
        drawn.add_scatter(x=[1], y=[1], name=name, mode="lines", line={"color": "#123456"})
    return drawn


def test_legend_names_each_trace_once_over_figures():
    text = legend(figure("one", "two"), figure("two", "three"))
    assert [text.count(f"</b> {name}</span>") for name in ("one", "two", "three")] == [1, 1, 1]
    assert text.count('<b style="color:#123456">') == 3


def test_legend_leaves_out_what_is_hidden_or_alone():
    drawn = figure("one", "two", "hidden")
    drawn.data[2].showlegend = False
    assert "hidden" not in legend(drawn)
    assert legend(figure("one")) == ""


def test_names_are_escaped_once():
    """plotly's own escaping is undone before that of the page."""
    drawn = figure(plain("<b>x</b>"), "two")
    assert "&lt;b&gt;x&lt;/b&gt;" in legend(drawn)
    assert "<b>x</b>" not in to_html(drawn)


def test_figures_have_no_legend_of_plotlys():
    drawn = figure("one", "two")
    assert '"showlegend":false' in without_legend(drawn)
    assert drawn.layout.showlegend is None, "the figure itself keeps it, for the dashboard"
