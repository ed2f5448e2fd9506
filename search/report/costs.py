"""What a strategy costs, and what the search adds to the strategies that everybody would try."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log10

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from search.report.style import LAYOUT, STYLES, beside, intervals, marker, size_axis, two_lines, value_axis
from search.verdict.judge import Candidate, Verdict
from search.verdict.metric import Metric
from search.verdict.results import Results

_KINDS = (
    ("best baseline", False, "diamond-open", "#0072B2"),
    ("best that the search found", True, "circle", "#000000"),
)


def front(verdict: Verdict) -> list[Candidate]:
    """The Pareto front, cheapest first: those to which no other candidate is both as cheap and as good."""
    sign = verdict.metric.sign
    best: list[Candidate] = []
    for candidate in sorted(verdict.candidates, key=lambda c: (c.seconds, -sign * c.score)):
        if not best or sign * candidate.score > sign * best[-1].score:
            best.append(candidate)
    return best


def cost(verdicts: Mapping[int, Verdict]) -> dict[int, go.Figure]:
    """Seconds to train against test score, a panel a size: its candidates, and the Pareto front."""
    seconds = [c.seconds for verdict in verdicts.values() for c in verdict.candidates]
    axis = value_axis(seconds)
    low, high = (log10(end) if axis else end for end in (min(seconds), max(seconds)))
    room = 0.1 * (high - low) or 0.1 * high
    axis["range"] = [low - room, high + room]  # the same in all, so that sizes can be compared
    return {size: _cost(verdict).update_xaxes(**axis) for size, verdict in sorted(verdicts.items())}


def _cost(verdict: Verdict) -> go.Figure:
    metric, best = verdict.metric, front(verdict)
    figure = go.Figure()
    figure.add_scatter(
        x=[c.seconds for c in best],
        y=[metric.scale * c.score for c in best],
        name="Pareto front",
        mode="lines",
        line={"color": "#888888", "width": 2, "shape": "hv"},
        hoverinfo="skip",
    )
    for c in verdict.candidates:
        figure.add_scatter(
            x=[c.seconds],
            y=[metric.scale * c.score],
            error_y=intervals(metric, [c]),
            name=c.family,
            mode="markers",
            marker=marker(c.family, filled=[c.contends]),
            hovertemplate=(
                f"{c.family}: {metric.interval(c.score, c.low, c.high)} in {c.seconds:.2f} s<extra></extra>"
            ),
        )
    figure.add_scatter(
        x=[verdict.recommended.seconds],
        y=[metric.scale * verdict.recommended.score],
        name="recommended",
        mode="markers",
        marker={"symbol": "circle-open", "size": 22, "color": "#000000", "line": {"width": 2}},
        hoverinfo="skip",
    )
    figure.update_layout(**{**LAYOUT, "margin": {"l": 55, "r": 10, "t": 35, "b": 45}}, height=280, showlegend=False)
    figure.update_layout(title={"text": f"<b>{verdict.size} labels</b>", "font": {"size": 14}, "x": 0.02, "y": 0.96})
    figure.update_xaxes(title_text="seconds to train")
    drawn = [metric.scale * c.score for c in verdict.candidates]
    figure.update_yaxes(title_text=metric.title, **({} if metric.percent else value_axis(drawn)))
    return figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What the search added at a size, from confirm trials alone.

    baseline, found: the best candidate that is a baseline and the best that is not, by confirmed score; None without
    one.
    searched: by the family of each candidate, whether the search's own trial beat the family's baselines to the final.
    """

    size: int
    baseline: Candidate | None
    found: Candidate | None
    searched: dict[str, bool]


def gains(results: Results, verdicts: Mapping[int, Verdict]) -> list[Gain]:
    """The gain at every size that has a verdict, in ascending order."""
    found = []
    for size, verdict in sorted(verdicts.items()):
        baselines = {row.number for row in results.explored(size) if row.baseline}
        searched = {c.family: c.source_trial not in baselines for c in verdict.candidates}
        # Candidates are sorted by score: the first of a kind is its best.
        baseline, own = (
            next((c for c in verdict.candidates if searched[c.family] is kind), None) for kind in (False, True)
        )
        found.append(Gain(size=size, baseline=baseline, found=own, searched=searched))
    return found


def against_baselines(found: Sequence[Gain], metric: Metric) -> go.Figure:
    """The best baseline against the best of the search's own, confirmed; below, which of them each family sent."""
    sizes = [gain.size for gain in found]
    families = [family for family in STYLES if any(family in gain.searched for gain in found)]
    below = 38 * len(families)
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[240, below], vertical_spacing=0.05)
    drawn: list[float] = []
    for place, (name, searched, symbol, colour) in enumerate(_KINDS):
        apart = beside(sizes, place, places=len(_KINDS))
        there = [(gain.size, c) for gain in found if (c := gain.found if searched else gain.baseline) is not None]
        drawn += [metric.scale * c.score for _, c in there]
        look = {"symbol": symbol, "size": 12, "color": colour, "line": {"width": 2}}
        figure.add_scatter(
            x=[size * apart for size, _ in there],
            y=[metric.scale * c.score for _, c in there],
            error_y=intervals(metric, [c for _, c in there]),
            name=name,
            mode="markers",
            marker=look,
            customdata=[[size, c.family, metric.interval(c.score, c.low, c.high)] for size, c in there],
            hovertemplate=f"{name}, %{{customdata[0]}} labels: %{{customdata[1]}}, %{{customdata[2]}}<extra></extra>",
            row=1,
            col=1,
        )
        sent = [(gain.size, two_lines(f)) for f in families for gain in found if gain.searched.get(f) is searched]
        figure.add_scatter(
            x=[size for size, _ in sent],
            y=[family for _, family in sent],
            mode="markers",
            marker=look,
            showlegend=False,
            hoverinfo="skip",
            row=2,
            col=1,
        )
    figure.update_layout(**LAYOUT, height=380 + below)
    figure.update_yaxes(title_text=metric.title, **({} if metric.percent else value_axis(drawn)), row=1, col=1)
    order = {"categoryorder": "array", "categoryarray": [two_lines(family) for family in reversed(families)]}
    figure.update_yaxes(**order, row=2, col=1)
    figure.update_xaxes(**size_axis(sizes))
    figure.update_xaxes(title_text="labelled examples", row=2, col=1)
    return figure
