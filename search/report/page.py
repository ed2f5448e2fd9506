"""A study as one self-contained page that opens offline, and its trials as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from html import escape
from importlib.metadata import version
from pathlib import Path

from plotly.offline import get_plotlyjs

from search.files import replacing
from search.report import costs, test_examples, trials, winners
from search.report.style import legend, short, to_html
from search.spec.tables import Space
from search.verdict.confirm import LEAST_REPEATS
from search.verdict.judge import Candidate, Verdict
from search.verdict.other_sizes import frost_line
from search.verdict.results import Results

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #111; background: #fff; max-width: 60rem; margin: 0 auto;
       padding: 1rem; }
h1 { font-size: 1.7rem; margin: .5rem 0 0; } h2 { font-size: 1.25rem; margin: 2.2rem 0 .3rem; }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .2rem; }
p, li { max-width: 46rem; } .quiet { color: #555; font-size: .92rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .92rem; width: 100%; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top; }
th { border-bottom: 2px solid #111; } td.number { text-align: right; white-space: nowrap; }
code, pre { font: .88rem ui-monospace, monospace; background: #f4f4f4; } code { padding: .1rem .25rem; }
pre { padding: .7rem; overflow-x: auto; } details { margin: .6rem 0; } summary { cursor: pointer; font-weight: 600; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); gap: .5rem; }
.panels > * { min-width: 0; } .legend { font-size: .92rem; max-width: none; } .legend b { font-size: 1.1rem; }
.legend span { white-space: nowrap; margin-right: 1rem; } .wide table { min-width: 44rem; }
tr.recommended td { font-weight: 600; } @media print { details > * { display: block; } }
"""

# A figure drawn inside closed details has no width yet.
_RESIZE = """
document.querySelectorAll("details").forEach(details => details.addEventListener("toggle", () =>
  details.querySelectorAll(".plotly-graph-div").forEach(figure => Plotly.Plots.resize(figure))));
"""

COLUMNS = (
    "size", "confirms", "number", "state", "repeat", "family", *Space.model_fields, "value", "best_epoch", "epochs",
    "seconds", "trainable_parameters", "seed", "baseline", "warm_started_from", "source_trial", "test_accuracy",
    "test_loss", "test_macro_f1", "test_auroc", "test_mse", "test_mae", "test_r2", "test_examples", "reason",
)  # fmt: skip
_OF_STRATEGY = frozenset(Space.model_fields)


def write_report(results: Results, verdicts: Mapping[int, Verdict]) -> Path:
    """Write `report.html` and `trials.csv` into the study's folder; returns the page's path."""
    page = results.location.folder / "report.html"
    for file, text in ((page.with_name("trials.csv"), trials_csv(results)), (page, render(results, verdicts))):
        with replacing(file) as stream:
            stream.write(text.encode())
    return page


def render(results: Results, verdicts: Mapping[int, Verdict]) -> str:
    """The page as HTML. Everything that comes from the study is escaped."""
    name = escape(results.location.name)
    parts = [
        f"<h1>{name}: which freezing strategy wins</h1>",
        f'<p class="quiet">{_what(results)}</p>',
        _answer(results, verdicts) if verdicts else _no_answer(results),
        test_examples.section(results, verdicts[max(verdicts)]) if verdicts else "",
        *(_at_size(results, verdicts, size) for size in results.sizes),
        _how_to_read(results),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{name} - Frostline</title><link rel="icon" href="data:,"><style>{_STYLE}{test_examples.STYLE}</style>'
        f"<script>{get_plotlyjs()}</script></head>\n<body>{''.join(parts)}<script>{_RESIZE}</script></body></html>\n"
    )


def trials_csv(results: Results) -> str:
    """Every trial as a row of `COLUMNS`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in results.rows:
        params = row.strategy
        writer.writerow([_cell(getattr(params if column in _OF_STRATEGY else row, column)) for column in COLUMNS])
    return text.getvalue()


def _cell(value: object) -> object:
    # What begins like a formula would be one in a spreadsheet; an error's text may be somebody else's.
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def _what(results: Results) -> str:
    spec = results.spec
    confirm = sum(row.confirms for row in results.rows)
    weights = f"source task {spec.source.data}" if spec.source else str(spec.model.weights)
    groups = f": {_listed(results.groups)}" if results.groups else ""
    shuffled = " <strong>Labels shuffled (control).</strong>" if spec.task.shuffle_labels else ""
    return (
        f"Data {escape(spec.task.data)}, backbone {escape(spec.model.backbone)} ({results.num_groups} layer groups"
        f"{escape(groups)}), "
        f"weights: {escape(weights)}. {len(results.rows) - confirm} exploring and {confirm} confirm trials, "
        f"{sum(row.seconds or 0.0 for row in results.rows) / 60:.1f} minutes of training. "
        f"Frostline {escape(version('frostline'))}.{shuffled}"
    )


def _answer(results: Results, verdicts: Mapping[int, Verdict]) -> str:
    rows = "".join(_answer_row(results, verdict) for _, verdict in sorted(verdicts.items()))
    waiting = [str(size) for size in results.sizes if size not in verdicts]
    go_on = f"<code>python -m search run {escape(results.location.name)}</code> goes on"
    note = f'<p class="quiet">Not confirmed yet: {", ".join(waiting)}; {go_on}.</p>' if waiting else ""
    repeats = max(verdict.repeats for verdict in verdicts.values())
    draws = "over fresh draws of labelled examples and" if repeats > 1 else "of one draw of labelled examples,"
    return (
        f"<h2>Who wins where</h2>{to_html(winners.strategy_map(verdicts))}"
        '<p class="quiet">The number is P(best) in %. ★ winner, ● contender, ○ ruled out, ✗ failed. Framed: '
        f"recommended, the fastest to train of those that score as well as the leader.</p>{note}"
        f"<h2>How good, and how sure</h2>{to_html(winners.scores(verdicts))}"
        f'<p class="quiet">Bars: 90 % intervals {draws} over test examples. Filled: contenders; open: ruled out.</p>'
        '<div class="wide"><table><thead><tr><th>labels</th><th>verdict</th><th>recommended</th>'
        f"<th>{results.metric.name}</th><th>P(best)</th><th>cost</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
        f"{_take(results, max(verdicts))}{_depth(results, verdicts)}{_payoff(results, verdicts)}"
    )


def _take(results: Results, size: int) -> str:
    return (
        "<h2>Take it</h2><pre>from search import best_strategy\n"
        f'strategy = best_strategy("{escape(results.location.name)}", size={size})</pre>'
    )


def _depth(results: Results, verdicts: Mapping[int, Verdict]) -> str:
    return (
        "<h2>How deep to freeze</h2>"
        f"{to_html(winners.frost(frost_line(verdicts, num_groups=results.num_groups), results.groups))}"
        '<p class="quiet">Groups above the line never train. Hatched: depths that the noise can\'t tell from the best.'
        "</p><details><summary>When to unfreeze, and at what rates</summary>"
        f"{to_html(winners.trends(results, verdicts))}"
        "</details>"
    )


def _payoff(results: Results, verdicts: Mapping[int, Verdict]) -> str:
    panels = "".join(f"<div>{to_html(figure)}</div>" for figure in costs.cost(verdicts).values())
    gains = costs.gains(results, verdicts)
    return (
        f"<h2>What it costs</h2>{legend(winners.families_of(verdicts))}"
        f'<div class="panels">{panels}</div>'
        '<p class="quiet">Line: the Pareto front; along it, a better score costs more seconds. Ringed: recommended. '
        "Filled: contenders. Seconds are those of the fastest confirm trial.</p>"
        "<h2>What the search added</h2>"
        f"{to_html(costs.against_baselines(gains, results.metric))}"
        '<p class="quiet">Baselines are what everybody would try, at their usual rates. Above: the best confirmed '
        "score of either kind, where a candidate is of that kind. Below: whether a family's candidate is a "
        "baseline or was found: its best trial and its best baseline meet on fresh repeats, in validation.</p>"
    )


def _answer_row(results: Results, verdict: Verdict) -> str:
    best = verdict.recommended
    failed = f"; failed: {', '.join(verdict.failed)}" if verdict.failed else ""
    return (
        f'<tr><td class="number">{verdict.size}</td><td>{escape(verdict.sentence + failed)}</td>'
        f"<td>{escape(best.family)}<br>{_strategy(results, best)}</td>"
        f'<td class="number">{_score(best, verdict)}</td><td class="number">{best.p_best:.2f}</td>'
        f'<td class="number">{best.seconds:.1f} s</td></tr>'
    )


def _no_answer(results: Results) -> str:
    name = escape(results.location.name)
    if results.spec.confirm.repeats == 0:
        way = "Give <code>[confirm] repeats</code> of the study file a number, and run it again."
    elif results.is_finished(results.sizes):
        way = "All that was to be confirmed failed, for the reasons below."
    else:
        way = f"Run it to its end: <code>python -m search run {name}</code>."
    return (
        "<h2>No answer yet</h2><p>No size is confirmed, and the scores of the search alone are too good to be true. "
        f"{way}</p>"
    )


def _at_size(results: Results, verdicts: Mapping[int, Verdict], size: int) -> str:
    explored, metric = results.explored(size), results.spec.task.metric
    if not explored:
        return ""
    failed = [row for row in [*explored, *results.confirmed(size)] if row.reason is not None]
    reasons = "".join(
        f"<li>{'confirm' if row.confirms else 'exploring'} trial {row.number}, {escape(row.family)}"
        f"{f', repeat {row.repeat}' if row.confirms else ''}: {escape(str(row.reason))}</li>"
        for row in failed
    )
    table = ""
    if size in verdicts:
        rows = "".join(_candidate_row(results, c, verdicts[size]) for c in verdicts[size].candidates)
        table = (
            '<div class="wide"><table><thead><tr><th>family</th>'
            f"<th>{results.metric.name}</th><th>P(best)</th><th>cost</th><th>status</th><th>repeats</th><th>strategy</th>"
            f"</tr></thead><tbody>{rows}</tbody></table></div>"
        )
    maximize = results.spec.task.direction == "maximize"
    return (
        f"<h2>{size} labels</h2>{table}"
        f"<details><summary>What the search tried ({len(explored)} trials)</summary>"
        f"{to_html(trials.history(explored, metric=metric, maximize=maximize))}"
        f"{to_html(trials.curves(explored, metric=metric))}</details>"
        + (f"<details open><summary>Failed trials</summary><ul>{reasons}</ul></details>" if failed else "")
    )


def _candidate_row(results: Results, candidate: Candidate, verdict: Verdict) -> str:
    chosen = ' class="recommended"' if candidate is verdict.recommended else ""
    return (
        f'<tr{chosen}><td>{escape(candidate.family)}</td><td class="number">{_score(candidate, verdict)}</td>'
        f'<td class="number">{candidate.p_best:.2f}</td><td class="number">{candidate.seconds:.1f} s</td>'
        f"<td>{winners.status(verdict, candidate)}</td>"
        f'<td class="number">{candidate.repeats}</td>'
        f"<td>{_strategy(results, candidate)}</td></tr>"
    )


def _how_to_read(results: Results) -> str:
    confirm = results.spec.confirm
    draws = f"{confirm.repeats} fresh draws"
    if confirm.repeats > LEAST_REPEATS:
        draws = f"{LEAST_REPEATS} fresh draws or more, {confirm.repeats} on average at most, where they still decide"
    return (
        '<h2>How to read this</h2><p class="quiet">A size counts every label, the validation ones included. The '
        "search explores one draw of the examples. On two fresh draws each family's best trial then meets its best "
        "baseline, in validation, and the better one goes on: it is trained on "
        f"{draws}, those two included, and judged on the test set from those trials alone; the leader's score is "
        "corrected for the luck of leading, and none is told higher. A contender is best with "
        f"a probability of at least 5 %, or within {results.metric.margin(confirm.margin)} of the leader; a winner "
        "is the only contender, with a probability of at least 97.5 %. Who is ruled out may have scored more than a "
        "contender, if by how much it is behind the leader is better known. The recommended strategy is, of the "
        "contenders that scored within the margin of the leader before that correction, the cheapest to train, by its "
        "fastest confirm trial, and of those within a tenth of its cost the best. All trials are in "
        "<code>trials.csv</code>, beside this page.</p>"
    )


def _score(candidate: Candidate, verdict: Verdict) -> str:
    return verdict.metric.interval(candidate.score, candidate.low, candidate.high)


def _strategy(results: Results, candidate: Candidate) -> str:
    params = ", ".join(f"{name} {short(value)}" for name, value in candidate.strategy.to_params().items())
    depth = candidate.strategy.freeze_depth
    frozen = ""
    if results.groups and depth:
        names = "the whole backbone" if depth == results.num_groups else _listed(results.groups[:depth])
        frozen = f'<br><span class="quiet">frozen throughout: {escape(names)}</span>'
    return f"<code>{escape(params)}</code>{frozen}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names if len(names) <= 6 else [*names[:3], "...", *names[-2:]])
