"""A study as one self-contained page that opens offline, written beside its CSV files."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from search.files import replacing
from search.report import costs, test_examples, trials, winners
from search.report.csv_files import trials_csv, verdict_csv
from search.report.frost import frost, frost_sentence
from search.report.judging import added, judging
from search.report.knobs import knob_sentence, knobs
from search.report.markup import fill, legend, to_html, without_legend
from search.report.sentences import advises, answers, difference, more_labels
from search.report.style import params_text
from search.verdict.importances import importances
from search.verdict.judge import Candidate, Verdict
from search.verdict.race import LEAST_REPEATS
from search.verdict.results import Results

MAX_GROUPS_LISTED = 6
"""Layer groups listed in a sentence; of more, the first three and the last two."""


def write_report(results: Results, verdicts: Mapping[int, Verdict]) -> Path:
    """Write `report.html`, `trials.csv` and `verdict.csv` into the study's folder. Return the page's path."""
    folder = results.location.folder
    texts = {
        "trials.csv": trials_csv(results),
        "verdict.csv": verdict_csv(results, verdicts),
        "report.html": render(results, verdicts),
    }
    for name, text in texts.items():
        with replacing(folder / name) as stream:
            stream.write(text.encode())
    return folder / "report.html"


def render(results: Results, verdicts: Mapping[int, Verdict]) -> str:
    """Return the page as HTML."""
    verdicts = dict(sorted(verdicts.items()))
    panels = list(costs.cost(verdicts).values()) if verdicts else []
    found = importances(results)
    page = fill(
        "page.html.jinja",
        results=results,
        spec=results.spec,
        metric=results.metric,
        verdicts=verdicts,
        judging=[*judging(results), *added(results, verdicts)],
        answers=answers(results, verdicts),
        more_labels=more_labels(results, verdicts),
        take=max((size for size, verdict in verdicts.items() if advises(verdict)), default=None),
        frost_sentence=frost_sentence(results, verdicts) if verdicts else "",
        knobs=knob_sentence(found, trials=len([row for row in results.rows if not row.judged])) if found else "",
        knobs_figure=to_html(knobs(found)) if found else "",
        version=version("frostline"),
        plotly_js=Markup(get_plotlyjs()),
        minutes=sum(row.seconds or 0.0 for row in results.every_row) / 60,
        waiting=[size for size in results.sizes if size not in verdicts],
        finished=results.is_finished(results.sizes),
        repeats=max((verdict.repeats for verdict in verdicts.values()), default=0),
        least_repeats=LEAST_REPEATS,
        figures=_figures(results, verdicts) if verdicts else {},
        panels=[without_legend(figure) for figure in panels],
        panels_legend=legend(*panels),
        test_examples=_test_examples(results, verdicts[max(verdicts)]) if verdicts else "",
        sizes=[_tried(results, size) for size in results.sizes],
        explores=any(results.explored(size) for size in results.sizes),
        unexplored=[size for size in results.sizes if size in results.unexplored],
        params_text=params_text,
        status=winners.status,
        difference=difference,
        cost_text=costs.cost_text,
        listed=_listed,
        frozen=lambda candidate: _frozen(results, candidate),
    )
    return str(page)  # `Markup` would escape what is added to it


def _figures(results: Results, verdicts: Mapping[int, Verdict]) -> dict[str, Markup]:
    figures = {
        "strategy_map": winners.strategy_map(verdicts),
        "scores": winners.scores(verdicts),
        "trends": winners.trends(results, verdicts),
    }
    if (line := frost(results, verdicts)) is not None:
        figures["frost"] = line
    if any(results.explored(size) for size in results.sizes):
        figures["gains"] = costs.gains(results, verdicts)
    return {name: to_html(figure) for name, figure in figures.items()}


def _test_examples(results: Results, verdict: Verdict) -> Markup:
    return test_examples.section(results.view(verdict.extension), verdict)


def _tried(results: Results, size: int) -> dict[str, object]:
    explored = results.explored(size)
    return {
        "size": size,
        "explored": explored,
        "failed": [row for row in [*explored, *results.confirmed(size)] if row.reason is not None],
        "history": to_html(trials.history(explored, metric=results.metric)) if explored else "",
        "curves": to_html(trials.curves(explored, metric=results.metric)) if explored else "",
    }


def _frozen(results: Results, candidate: Candidate) -> str:
    """Return the names of the layer groups that a candidate never trains."""
    depth = candidate.strategy.freeze_depth if results.groups else 0
    return "the whole backbone" if 0 < depth == results.num_groups else _listed(results.groups[:depth])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names if len(names) <= MAX_GROUPS_LISTED else [*names[:3], "...", *names[-2:]])
