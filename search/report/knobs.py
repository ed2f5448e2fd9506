"""The searched parameters by their influence on the search: a sentence and a figure."""

from collections.abc import Sequence

import plotly.graph_objects as go

from search.report.style import LAYOUT
from search.verdict.importances import Importance

NAMES = {"backbone_lr_ratio": "backbone LR ratio", "head_lr": "head LR", "layer_lr_decay": "layer LR decay"}
MOST_NAMED = 3
"""Parameters named in the sentence."""


def knob_sentence(found: Sequence[Importance], *, trials: int) -> str:
    """Return a sentence on the parameter that mattered most, as far as the trials show.

    trials: the number of explored trials.
    """
    first, *others = found[:MOST_NAMED]
    share = f"{_share(first)[0]} of their differences in rank {_share(first)[1]}"
    rest = "".join(f", {_name(one)} {' '.join(_share(one))}" for one in others)
    if first.low > found[1].high and first.share > first.noise:
        name = _name(first)
        return f"{name[:1].upper()}{name[1:]} mattered most in the {trials} explored trials: {share}{rest}."
    return f"The {trials} explored trials do not show which mattered most: {_name(first)} has {share}{rest}."


def knobs(found: Sequence[Importance]) -> go.Figure:
    """Draw each parameter's share as a bar, with its range and its share by chance."""
    figure, shown = go.Figure(), list(reversed(found))
    figure.add_bar(
        x=[100 * one.share for one in shown], y=[_name(one).replace(" ", "<br>", 1) for one in shown], orientation="h",
        marker={"color": "#0072B2"}, hovertemplate="%{y}: %{x:.0f} %<extra></extra>",
        error_x={
            "type": "data", "symmetric": False, "array": [100 * max(one.high - one.share, 0) for one in shown],
            "arrayminus": [100 * max(one.share - one.low, 0) for one in shown], "thickness": 1.2, "width": 3,
        },
    )  # fmt: skip
    figure.add_scatter(
        x=[100 * one.noise for one in shown], y=figure.data[0].y, name="by chance", mode="markers",
        marker={"symbol": "line-ns-open", "size": 24, "color": "#D55E00", "line": {"width": 3}}, hoverinfo="skip",
    )  # fmt: skip
    figure.update_layout(**LAYOUT, height=90 + 42 * len(shown))
    return figure.update_xaxes(title_text="share of the differences in rank, %", rangemode="tozero")


def _share(one: Importance) -> tuple[str, str]:
    """Return the share, and its range."""
    return f"{100 * one.share:.0f} %", f"({100 * one.low:.0f}-{100 * one.high:.0f})"


def _name(one: Importance) -> str:
    return NAMES.get(one.name, one.name.replace("_", " "))
