"""The axis of test scores: the informative ones fill it, its edge names others."""

from collections.abc import Sequence
from math import log10
from typing import Any

import plotly.graph_objects as go

from search.report.style import STYLES, value_axis
from search.verdict.judge import Candidate, Verdict
from search.verdict.metric import Metric

LEAST_SHARE = 0.25
"""Least share of the way from the best constant answer to the leader."""
ROOM = 0.08
"""Room beyond the intervals, as a share of the axis."""


def informative(verdict: Verdict, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates not near the best constant answer; all if the leader is."""
    trivial, leader = verdict.trivial, verdict.every_candidate[0].score
    if trivial is None or not trivial.is_below(leader):
        return list(candidates)
    least = trivial.score + LEAST_SHARE * (leader - trivial.score)
    return [c for c in candidates if verdict.metric.sign * (c.score - least) >= 0]


def score_axis(metric: Metric, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Return an axis that holds these candidates' intervals, with its title."""
    kind = value_axis(metric.scale * c.score for c in candidates) if metric.relative else {}
    ends = [metric.scale * end for c in candidates for end in (c.low, c.high)]
    if kind:  # an interval that reaches 0 has no end there
        ends = [log10(max(end, metric.scale * c.score / 4)) for c in candidates for end in (c.low, c.high)]
    low, high = min(ends), max(ends)
    room = ROOM * (high - low) or ROOM * abs(high) or 1.0
    return {"title_text": metric.title, **kind, "range": [low - room, high + room]}


def mark_worse(
    figure: go.Figure, metric: Metric, axis: dict[str, Any], points: Sequence[tuple[float, Candidate]]
) -> None:
    """Mark candidates of a family at the worse edge of an axis, with their scores.

    points: the places on the x axis, and the candidates.
    """
    if not points:
        return
    edge = axis["range"][0 if metric.higher_is_better else 1]
    up = not metric.higher_is_better
    figure.add_scatter(
        x=[x for x, _ in points], y=[10**edge if "type" in axis else edge] * len(points), mode="markers+text",
        marker={"symbol": f"triangle-{'up' if up else 'down'}", "size": 11, "color": STYLES[points[0][1].family][0]},
        text=[metric.shown(c.score) for _, c in points], textposition=f"{'bottom' if up else 'top'} center",
        customdata=[metric.interval(c.score, c.low, c.high) for _, c in points], cliponaxis=False, showlegend=False,
        hovertemplate=f"{points[0][1].family}, off the axis: %{{customdata}}<extra></extra>",
    )  # fmt: skip
