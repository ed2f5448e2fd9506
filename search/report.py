"""A study as one self-contained page that opens offline, and its trials as CSV."""

import csv
import io
from collections.abc import Mapping
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from search import plots
from search.rows import Results
from search.spec import Space
from search.verdict import Contestant, Verdict, judge_all

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #111; background: #fff; max-width: 60rem; margin: 0 auto;
       padding: 1rem; }
h1 { font-size: 1.7rem; margin: .5rem 0 0; } h2 { font-size: 1.25rem; margin: 2.2rem 0 .3rem; }
p, li { max-width: 46rem; } .quiet { color: #555; font-size: .92rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .92rem; width: 100%; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top; }
th { border-bottom: 2px solid #111; } td.number { text-align: right; white-space: nowrap; }
code, pre { font: .88rem ui-monospace, monospace; background: #f4f4f4; } code { padding: .1rem .25rem; }
pre { padding: .7rem; overflow-x: auto; } details { margin: .6rem 0; } summary { cursor: pointer; font-weight: 600; }
tr.recommended td { font-weight: 600; } @media print { details > * { display: block; } }
"""

# A figure drawn inside closed details has no width yet.
_RESIZE = """
document.querySelectorAll("details").forEach(details => details.addEventListener("toggle", () =>
  details.querySelectorAll(".plotly-graph-div").forEach(figure => Plotly.Plots.resize(figure))));
"""

COLUMNS = (
    "size", "confirms", "number", "state", "chain", "family", "freeze_depth", "unfreeze_epoch", "backbone_lr_ratio",
    "head_lr", "epochs_per_group", "layer_lr_decay", "pretrained", "value", "best_epoch", "epochs", "seconds",
    "trainable_parameters", "seed", "anchor", "explored", "test_accuracy", "test_loss", "test_macro_f1",
    "test_examples", "reason",
)  # fmt: skip


_OF_STRATEGY = frozenset(Space.model_fields)


def write_report(results: Results) -> Path:
    """Write `report.html` and `trials.csv` into the study's folder; returns the page's path."""
    folder = results.home.folder
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "report.html"
    for file, text in ((folder / "trials.csv", trials_csv(results)), (page, render(results))):
        partial = file.with_suffix(".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)
    return page


def render(results: Results) -> str:
    """The page as HTML. Everything that comes from the study is escaped."""
    verdicts = judge_all(results)
    name = escape(results.home.name)
    parts = [
        f"<h1>{name}: which freezing strategy wins</h1>",
        f'<p class="quiet">{_what(results)}</p>',
        _answer(results, verdicts) if verdicts else _no_answer(results),
        *(_at_size(results, verdicts, size) for size in results.sizes),
        _how_to_read(results),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{name} - Frostline</title><link rel="icon" href="data:,"><style>{_STYLE}</style>'
        f"<script>{get_plotlyjs()}</script></head>\n<body>{''.join(parts)}<script>{_RESIZE}</script></body></html>\n"
    )


def trials_csv(results: Results) -> str:
    """Every trial as a row of `COLUMNS`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in results.rows:
        params = row.strategy
        writer.writerow([getattr(params if column in _OF_STRATEGY else row, column) for column in COLUMNS])
    return text.getvalue()


def _what(results: Results) -> str:
    spec = results.spec
    confirm = sum(row.confirms for row in results.rows)
    weights = f"source task {spec.source.data}" if spec.source else spec.model.weights
    shuffled = " <strong>Labels shuffled (control).</strong>" if spec.task.shuffle_labels else ""
    return (
        f"Data {escape(spec.task.data)}, backbone {escape(spec.model.backbone)} ({results.num_groups} layer groups), "
        f"weights: {escape(weights)}. {len(results.rows) - confirm} exploring and {confirm} confirm trials, "
        f"{sum(row.seconds or 0.0 for row in results.rows) / 60:.1f} minutes of training. "
        f"Frostline {escape(version('frostline'))}.{shuffled}"
    )


def _answer(results: Results, verdicts: Mapping[int, Verdict]) -> str:
    rows = "".join(_answer_row(verdict) for _, verdict in sorted(verdicts.items()))
    waiting = [str(size) for size in results.sizes if size not in verdicts]
    note = f'<p class="quiet">Not confirmed yet: {", ".join(waiting)}.</p>' if waiting else ""
    largest = max(verdicts)
    return (
        "<h2>The answer</h2>"
        f"{_figure(plots.answer(verdicts))}"
        '<p class="quiet">Bars: 90 % intervals over fresh draws of labelled examples and over test examples. Filled '
        "markers: contenders; open ones are ruled out.</p>"
        '<div class="wide"><table><thead><tr><th>labels</th><th>verdict</th><th>recommended</th>'
        f"<th>test accuracy</th><th>P(best)</th><th>cost</th><th>ruled out</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{note}"
        "<h2>Take it</h2><pre>"
        "from search import best_strategy\n"
        f'strategy = best_strategy("{escape(results.home.name)}", size={largest})'
        "</pre>"
        "<h2>How the best strategy moves with size</h2>"
        f"{_figure(plots.trends(results, verdicts))}"
        "<h2>Cost against score</h2>"
        f"{_figure(plots.cost(verdicts))}"
        '<p class="quiet">Each point is a finalist at the size beside it; seconds are the mean of its confirm '
        "trials.</p>"
    )


def _answer_row(verdict: Verdict) -> str:
    best = verdict.recommended
    ruled_out = ", ".join(c.family for c in verdict.ruled_out) or "none"
    failed = f"; failed: {', '.join(verdict.failed)}" if verdict.failed else ""
    return (
        f'<tr><td class="number">{verdict.size}</td><td>{escape(verdict.sentence)}</td>'
        f"<td>{escape(best.family)}<br><code>{escape(_params(best))}</code></td>"
        f'<td class="number">{_score(best)}</td><td class="number">{best.p_best:.2f}</td>'
        f'<td class="number">{best.seconds:.1f} s</td><td>{escape(ruled_out + failed)}</td></tr>'
    )


def _no_answer(results: Results) -> str:
    return (
        "<h2>No answer yet</h2><p>No size is confirmed, and the scores of the search alone are too good to be true. "
        f"Run it to its end: <code>python -m search run {escape(results.home.name)}</code>.</p>"
    )


def _at_size(results: Results, verdicts: Mapping[int, Verdict], size: int) -> str:
    explored, metric = results.explored(size), results.spec.task.metric
    if not explored:
        return ""
    failed = [row for row in [*explored, *results.confirmed(size)] if row.reason is not None]
    reasons = "".join(f"<li>trial {row.number}: {escape(str(row.reason))}</li>" for row in failed)
    table = ""
    if size in verdicts:
        rows = "".join(_contestant_row(c, verdicts[size]) for c in verdicts[size].contestants)
        table = (
            '<div class="wide"><table><thead><tr><th>family</th><th>test accuracy</th><th>P(best)</th><th>cost</th>'
            f"<th>status</th><th>strategy</th></tr></thead><tbody>{rows}</tbody></table></div>"
        )
    maximize = results.spec.task.direction == "maximize"
    return (
        f"<h2>{size} labels</h2>{table}"
        f"<details><summary>What the search tried ({len(explored)} trials)</summary>"
        f"{_figure(plots.history(explored, metric=metric, maximize=maximize))}"
        f"{_figure(plots.curves(explored, metric=metric))}</details>"
        + (f"<details open><summary>Failed trials</summary><ul>{reasons}</ul></details>" if failed else "")
    )


def _contestant_row(contestant: Contestant, verdict: Verdict) -> str:
    status = "contender" if contestant.contends else "ruled out"
    if contestant is verdict.winner:
        status = "winner"
    elif contestant is verdict.recommended:
        status = "contender, recommended"
    chosen = ' class="recommended"' if contestant is verdict.recommended else ""
    return (
        f'<tr{chosen}><td>{escape(contestant.family)}</td><td class="number">{_score(contestant)}</td>'
        f'<td class="number">{contestant.p_best:.2f}</td><td class="number">{contestant.seconds:.1f} s</td>'
        f"<td>{status}</td><td><code>{escape(_params(contestant))}</code></td></tr>"
    )


def _how_to_read(results: Results) -> str:
    confirm = results.spec.confirm
    return (
        '<h2>How to read this</h2><p class="quiet">A size counts every label, the validation ones included. The '
        "search explores one draw of the examples; the best strategy of each family is then trained again on "
        f"{confirm.chains} fresh draws, and judged on the test set from those trials alone. A contender is best with "
        f"a probability of at least 5 %, or within {100 * confirm.margin:g} points of the leader; a winner is the "
        "only contender, with a probability of at least 95 %. The recommended strategy is the cheapest contender to "
        "train. "
        "All trials are in <code>trials.csv</code>, beside this page.</p>"
    )


def _score(contestant: Contestant) -> str:
    return f"{100 * contestant.score:.1f} % ({100 * contestant.low:.1f}-{100 * contestant.high:.1f})"


def _params(contestant: Contestant) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in contestant.strategy.to_params().items())


def _short(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:.3g}"


def _figure(figure: go.Figure) -> str:
    html: str = plotly.io.to_html(
        figure, full_html=False, include_plotlyjs=False, config={"responsive": True, "displayModeBar": False}
    )
    return html
