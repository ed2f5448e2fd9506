"""A study as one self-contained page that opens offline, and its trials as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from search.files import replacing
from search.report import costs, test_examples, trials, winners
from search.report.markup import fill, to_html
from search.report.style import legend, params_text
from search.spec.tables import Space
from search.verdict.judge import Candidate, Verdict
from search.verdict.metric import METRICS, score_names
from search.verdict.race import LEAST_REPEATS
from search.verdict.results import Results
from search.verdict.rows import Row

SCORES = score_names(METRICS.values())
COLUMNS = (
    "size", "confirms", "number", "state", "repeat", "family", *Space.model_fields, "value", "best_epoch", "epochs",
    "seconds", "trainable_parameters", "seed", "baseline", "warm_started_from", "source_trial", *SCORES,
    "test_examples", "reason",
)  # fmt: skip
MAX_GROUPS_LISTED = 6
"""Layer groups listed in a sentence; of more, the first three and the last two."""


def write_report(results: Results, verdicts: Mapping[int, Verdict]) -> Path:
    """Write `report.html` and `trials.csv` into the study's folder. Return the page's path."""
    page = results.location.folder / "report.html"
    for file, text in ((page.with_name("trials.csv"), trials_csv(results)), (page, render(results, verdicts))):
        with replacing(file) as stream:
            stream.write(text.encode())
    return page


def render(results: Results, verdicts: Mapping[int, Verdict]) -> str:
    """Return the page as HTML."""
    verdicts = dict(sorted(verdicts.items()))
    page = fill(
        "page.html.jinja",
        results=results,
        spec=results.spec,
        metric=results.metric,
        verdicts=verdicts,
        version=version("frostline"),
        plotly_js=Markup(get_plotlyjs()),
        minutes=sum(row.seconds or 0.0 for row in results.rows) / 60,
        waiting=[size for size in results.sizes if size not in verdicts],
        finished=results.is_finished(results.sizes),
        repeats=max((verdict.repeats for verdict in verdicts.values()), default=0),
        least_repeats=LEAST_REPEATS,
        figures=_figures(results, verdicts) if verdicts else {},
        panels=[to_html(figure) for figure in costs.cost(verdicts).values()] if verdicts else [],
        legend=legend(winners.families_of(verdicts)),
        test_examples=test_examples.section(results, verdicts[max(verdicts)]) if verdicts else "",
        sizes=[_exploration(results, size) for size in results.sizes if results.explored(size)],
        params_text=params_text,
        status=winners.status,
        listed=_listed,
        frozen=lambda candidate: _frozen(results, candidate),
    )
    return str(page)  # `Markup` would escape what is added to it


def _figures(results: Results, verdicts: Mapping[int, Verdict]) -> dict[str, Markup]:
    figures = {
        "strategy_map": winners.strategy_map(verdicts),
        "scores": winners.scores(verdicts),
        "frost": winners.frost(results, verdicts),
        "trends": winners.trends(results, verdicts),
        "gains": costs.gains(results, verdicts),
    }
    return {name: to_html(figure) for name, figure in figures.items()}


def _exploration(results: Results, size: int) -> dict[str, object]:
    explored = results.explored(size)
    return {
        "size": size,
        "explored": explored,
        "failed": [row for row in [*explored, *results.confirmed(size)] if row.reason is not None],
        "history": to_html(trials.history(explored, metric=results.metric)),
        "curves": to_html(trials.curves(explored, metric=results.metric)),
    }


def _frozen(results: Results, candidate: Candidate) -> str:
    """Return the names of the layer groups that a candidate never trains."""
    depth = candidate.strategy.freeze_depth if results.groups else 0
    return "the whole backbone" if 0 < depth == results.num_groups else _listed(results.groups[:depth])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names if len(names) <= MAX_GROUPS_LISTED else [*names[:3], "...", *names[-2:]])


def trials_csv(results: Results) -> str:
    """Return every trial as a row of `COLUMNS`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in results.rows:
        writer.writerow([_cell(_value(row, name)) for name in COLUMNS])
    return text.getvalue()


def _value(row: Row, name: str) -> object:
    if name in SCORES:
        return row.scores.get(name)
    return getattr(row.strategy if name in Space.model_fields else row, name)


def _cell(value: object) -> object:
    # A spreadsheet would run a text that begins like a formula; an error's text may be somebody else's.
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value
