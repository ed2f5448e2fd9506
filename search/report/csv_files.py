"""A study's trials and verdicts as CSV."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from search.report.winners import status
from search.spec.tables import Space
from search.verdict.judge import Verdict
from search.verdict.metric import METRICS, score_names
from search.verdict.provenance import provenance
from search.verdict.results import Results
from search.verdict.rows import Row
from strategies import FreezingStrategy

SCORES = score_names(METRICS.values())
TRIAL_COLUMNS = (
    "size", "repeat", "judged", "number", "state", "family", "strategy", "baseline", *Space.model_fields, "epochs",
    "value", *SCORES, "test_examples", "seconds", "trainable_parameters", "seed", "warm_started_from", "source_trial",
    "reason",
)  # fmt: skip
ORIGIN_COLUMNS = ("data", "metric", "backbone", "weights", "date", "version")
"""Columns that say what a verdict was found with."""
VERDICT_COLUMNS = (
    "size", "family", "strategy", "score", "low", "high", "p_within_margin", "expected_loss", "p_best", "status",
    "gflops", "seconds", "runs", "failed_to_train", "mean", *ORIGIN_COLUMNS,
)  # fmt: skip


CANDIDATE_COLUMNS = ("score", "low", "high", "p_within_margin", "expected_loss", "p_best", "gflops", "seconds", "mean")
"""Columns that are fields of a judged candidate."""


def trials_csv(results: Results) -> str:
    """Return every trial as a row of `TRIAL_COLUMNS`.

    The mean of the judged rows of a size and a strategy is the `mean` of `verdict_csv`, and on the page.
    """
    return _text(TRIAL_COLUMNS, ([_trial_value(row, name) for name in TRIAL_COLUMNS] for row in results.rows))


def verdict_csv(results: Results, verdicts: Mapping[int, Verdict]) -> str:
    """Return every candidate at every size as a row of `VERDICT_COLUMNS`.

    score, low, high, expected_loss: in the metric's own unit; mean: that of its runs, uncorrected.
    failed_to_train: runs without a finite score. A candidate with one is not judged.
    date: when the last of the size's judged trials ended, in UTC.
    gflops, seconds: of one run; the former is empty where the network's operations are unknown.
    """
    rows: list[dict[str, object]] = []
    for _, verdict in sorted(verdicts.items()):
        origin = provenance(results, results.confirmed(verdict.size))
        judged = {candidate.strategy: candidate for candidate in verdict.every_candidate}
        for strategy in dict.fromkeys([*judged, *results.candidates(verdict.size)]):
            runs = [row for row in results.confirmed(verdict.size) if row.strategy == strategy and row.is_finished]
            known: dict[str, object] = {
                "size": verdict.size,
                "family": str(strategy.family(results.num_groups)),
                "strategy": _spelled(strategy),
                "status": "failed",
                "runs": len(runs),
                "failed_to_train": sum(row.state == "FAIL" for row in runs),
            }
            if strategy in judged:
                candidate = judged[strategy]
                known |= {name: getattr(candidate, name) for name in CANDIDATE_COLUMNS}
                known |= {"status": status(verdict, candidate), "runs": candidate.repeats}
            rows.append(known | origin)
    return _text(VERDICT_COLUMNS, ([row.get(name) for name in VERDICT_COLUMNS] for row in rows))


def _trial_value(row: Row, name: str) -> object:
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
