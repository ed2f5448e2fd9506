"""A study's trials and verdicts as CSV."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from search.report.winners import status
from search.spec.tables import Space
from search.verdict.judge import Verdict, earlier
from search.verdict.metric import METRICS, score_names
from search.verdict.provenance import provenance
from search.verdict.results import Results
from search.verdict.rows import Row
from strategies import FreezingStrategy

SCORES = score_names(METRICS.values())
TRIAL_COLUMNS = (
    "size", "repeat", "labels", "judged", "number", "state", "family", "strategy", "baseline", *Space.model_fields,
    "epochs", "value", *SCORES, "test_examples", "seconds", "trainable_parameters", "seed", "warm_started_from",
    "source_trial", "reason",
)  # fmt: skip
ORIGIN_COLUMNS = ("data", "metric", "backbone", "weights", "date", "version")
"""Columns that say what a verdict was found with."""
VERDICT_COLUMNS = (
    "size", "family", "strategy", "score", "low", "high", "p_within_margin", "expected_loss", "p_best", "status",
    "gflops", "seconds", "runs", "failed_to_train", "mean", "labels", *ORIGIN_COLUMNS,
)  # fmt: skip


CANDIDATE_COLUMNS = ("score", "low", "high", "p_within_margin", "expected_loss", "p_best", "gflops", "seconds", "mean")
"""Columns that are fields of a judged candidate."""


def trials_csv(results: Results) -> str:
    """Return every trial as a row of `TRIAL_COLUMNS`.

    labels: those that its repeat drew from; empty where that is not known.
    The mean of the judged rows of a size and a strategy is the `mean` of `verdict_csv`, and on the page.
    """
    labels = {view.extension: view.labels or None for view in results.views}
    return _text(
        TRIAL_COLUMNS, ([_trial_value(row, name, labels) for name in TRIAL_COLUMNS] for row in results.every_row)
    )


def verdict_csv(results: Results, verdicts: Mapping[int, Verdict]) -> str:
    """Return every candidate at every size as a row of `VERDICT_COLUMNS`.

    After labels were added, earlier verdicts follow the newest one; labels: those that its repeats drew from.
    score, low, high, expected_loss: in the metric's own unit; mean: that of its runs, uncorrected.
    failed_to_train: runs far below the candidate's best one. A candidate with one that has no finite score is not
        judged, and those are counted.
    date: when the last of the size's judged trials ended, in UTC.
    gflops, seconds: of one run; the former is empty where the network's operations are unknown.
    """
    rows: list[dict[str, object]] = []
    for verdict in (one for size in sorted(verdicts) for one in [verdicts[size], *earlier(results, verdicts[size])]):
        judged, view = {one.strategy: one for one in verdict.every_candidate}, results.view(verdict.extension)
        origin = provenance(view, view.confirmed(verdict.size))
        for strategy in dict.fromkeys([*judged, *view.candidates(verdict.size)]):
            runs = [row for row in view.confirmed(verdict.size) if row.strategy == strategy and row.is_finished]
            known: dict[str, object] = {
                "size": verdict.size,
                "labels": verdict.labels or None,
                "family": str(strategy.family(results.num_groups)),
                "strategy": _spelled(strategy),
                "status": "failed",
                "runs": len(runs),
                "failed_to_train": sum(row.state == "FAIL" for row in runs),
            }
            if strategy in judged:
                candidate = judged[strategy]
                known |= {name: getattr(candidate, name) for name in CANDIDATE_COLUMNS}
                known |= {
                    "status": status(verdict, candidate),
                    "runs": candidate.repeats,
                    "failed_to_train": candidate.failed_to_train,
                }
            rows.append(known | origin)
    return _text(VERDICT_COLUMNS, ([row.get(name) for name in VERDICT_COLUMNS] for row in rows))


def _trial_value(row: Row, name: str, labels: Mapping[int, int | None]) -> object:
    if name == "labels":
        return labels.get(row.extension)
    if name in SCORES:
        return row.scores.get(name)
    if name == "strategy":
        return _spelled(row.strategy)
    return getattr(row.strategy if name in Space.model_fields else row, name)


def _spelled(strategy: FreezingStrategy) -> str:
    # Exactly, so that rows can be grouped by it.
    return ", ".join(f"{name}={value!r}" for name, value in strategy.to_params(defaults=False).items())


def _text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    # A spreadsheet would run a text that begins like a formula; an error's text may be somebody else's.
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value
