"""The cost of strategies, and the gain of the search over the baselines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log10

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from search.report.score_axis import informative, mark_worse, score_axis
from search.report.style import LAYOUT, STYLES, beside, marker, scores_of, size_axis, two_lines, value_axis
from search.verdict.judge import Candidate, Verdict
from search.verdict.metric import Metric
from search.verdict.results import Results


def front(verdict: Verdict) -> list[Candidate]:
    """Return the Pareto front, cheapest first: no other is both as cheap and as good."""
    sign = verdict.metric.sign
    best: list[Candidate] = []
    for candidate in sorted(verdict.every_candidate, key=lambda c: (c.cost, -sign * c.score)):
        if not best or sign * candidate.score > sign * best[-1].score:
            best.append(candidate)
    return best


def cost(verdicts: Mapping[int, Verdict]) -> dict[int, go.Figure]:
    """Draw each size's training costs against test scores, with the Pareto front."""
    costs = [c.cost for verdict in verdicts.values() for c in verdict.every_candidate]
    axis = value_axis(costs)
    low, high = (log10(end) if axis else end for end in (min(costs), max(costs)))
    room = 0.1 * (high - low) or 0.1 * high
    axis["range"] = [low - room, high + room]  # the same in all, so that sizes can be compared
    return {size: _cost(verdict).update_xaxes(**axis) for size, verdict in sorted(verdicts.items())}


def cost_text(candidate: Candidate) -> str:
    """Return what a candidate takes to train: "12.3 GFLOPs", or seconds where those are unknown."""
    if candidate.gflops is None:
        return f"{candidate.seconds:.3g} s"
    return f"{candidate.gflops:.3g} GFLOPs" if candidate.gflops < 1000 else f"{candidate.gflops / 1000:,.3g} TFLOPs"


def _cost(verdict: Verdict) -> go.Figure:
    metric, figure = verdict.metric, go.Figure()
    shown = informative(verdict, verdict.every_candidate)
    axis, best = score_axis(metric, shown), [c for c in front(verdict) if c in shown]
    figure.add_scatter(
        x=[c.cost for c in best], y=scores_of(metric, best)["y"], name="Pareto front", mode="lines",
        line={"color": "#888888", "width": 2, "shape": "hv"}, hoverinfo="skip",
    )  # fmt: skip
    for c in shown:
        score = metric.interval(c.score, c.low, c.high)
        figure.add_scatter(
            x=[c.cost], **scores_of(metric, [c]), name=c.family, mode="markers",
            marker=marker(c.family, filled=[c.contends]),
            hovertemplate=f"{c.family}: {score} for {cost_text(c)}, {c.seconds:.3g} s<extra></extra>",
        )  # fmt: skip
    for c in verdict.every_candidate:
        if c not in shown:
            mark_worse(figure, metric, axis, [(c.cost, c)])
    figure.add_scatter(
        x=[verdict.recommended.cost], y=scores_of(metric, [verdict.recommended])["y"], name="recommended",
        mode="markers", marker={"symbol": "circle-open", "size": 22, "color": "#000000", "line": {"width": 2}},
        hoverinfo="skip",
    )  # fmt: skip
    figure.update_layout(**{**LAYOUT, "margin": {"l": 55, "r": 10, "t": 35, "b": 45}}, height=280)
    figure.update_layout(title={"text": f"<b>{verdict.size} labels</b>", "font": {"size": 14}, "x": 0.02, "y": 0.96})
    counted = verdict.recommended.gflops is not None
    figure.update_xaxes(title_text="GFLOPs to train" if counted else "seconds to train")
    return figure.update_yaxes(**{**axis, "title_text": None})


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """The gain of the search at a size, from confirm trials alone.

    baseline, found: the best candidate that is a baseline and the best that is not, by score; None without one.
    searched: True where a family's best candidate is not a baseline, by family.
    """

    size: int
    baseline: Candidate | None
    found: Candidate | None
    searched: dict[str, bool]


def gains_info(results: Results, verdicts: Mapping[int, Verdict]) -> list[Gain]:
    """Return the gain at every size that has a verdict, in ascending order."""
    found = []
    for size, verdict in sorted(verdicts.items()):
        searched = {c.family: not c.baseline for c in verdict.candidates}
        # Candidates are sorted by score: the first of a kind is its best.
        best = {not c.baseline: c for c in reversed(verdict.every_candidate)}
        found.append(Gain(size=size, baseline=best.get(False), found=best.get(True), searched=searched))
    return found


def gains(results: Results, verdicts: Mapping[int, Verdict]) -> go.Figure:
    """Draw the gain of the search over the baselines against the size."""
    return gains_figure(gains_info(results, verdicts), results.metric)


def gains_figure(info: Sequence[Gain], metric: Metric) -> go.Figure:
    """Draw the best candidate of each kind; below, the kind of each family's best."""
    sizes = [gain.size for gain in info]
    families = [family for family in STYLES if any(family in gain.searched for gain in info)]
    below = 38 * len(families)
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[240, below], vertical_spacing=0.05)
    kinds = (
        ("best baseline", False, [(gain.size, gain.baseline) for gain in info], "diamond-open", "#0072B2"),
        ("best that the search found", True, [(gain.size, gain.found) for gain in info], "circle", "#000000"),
    )
    for place, (name, searched, best, symbol, colour) in enumerate(kinds):
        apart = beside(sizes, place, places=len(kinds))
        points = [(size, c) for size, c in best if c is not None]
        look = {"symbol": symbol, "size": 12, "color": colour, "line": {"width": 2}}
        figure.add_scatter(
            x=[size * apart for size, _ in points], **scores_of(metric, [c for _, c in points]), name=name,
            mode="markers", marker=look,
            customdata=[[size, c.family, metric.interval(c.score, c.low, c.high)] for size, c in points],
            hovertemplate=f"{name}, %{{customdata[0]}} labels: %{{customdata[1]}}, %{{customdata[2]}}<extra></extra>",
            row=1, col=1,
        )  # fmt: skip
        kind = [(gain.size, two_lines(f)) for f in families for gain in info if gain.searched.get(f) is searched]
        figure.add_scatter(
            x=[size for size, _ in kind], y=[family for _, family in kind], mode="markers", marker=look,
            showlegend=False, hoverinfo="skip", row=2, col=1,
        )  # fmt: skip
    figure.update_layout(**LAYOUT, height=340 + below)
    drawn = [c for gain in info for c in (gain.baseline, gain.found) if c is not None]
    figure.update_yaxes(**score_axis(metric, drawn), row=1, col=1)
    order = {"categoryorder": "array", "categoryarray": [two_lines(family) for family in reversed(families)]}
    figure.update_yaxes(**order, row=2, col=1)
    figure.update_xaxes(**size_axis(sizes))
    return figure.update_xaxes(title_text="labelled examples", row=2, col=1)
