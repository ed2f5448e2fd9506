"""A study's trials and verdicts as CSV."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from search.report.winners import status
from search.spec.tables import Space
from search.verdict.judge import Candidate, Verdict
from search.verdict.metric import METRICS, score_names
from search.verdict.results import Results
from search.verdict.rows import Row
from strategies import FreezingStrategy

SCORES = score_names(METRICS.values())
TRIAL_COLUMNS = (
    "size", "repeat", "judged", "number", "state", "family", "strategy", "baseline", *Space.model_fields, "epochs",
    "value", *SCORES, "test_examples", "seconds", "trainable_parameters", "seed", "warm_started_from", "source_trial",
    "reason",
)  # fmt: skip
VERDICT_COLUMNS = (
    "size", "family", "strategy", "score", "low", "high", "p_within_margin", "expected_loss", "p_best", "status",
    "gflops", "seconds", "runs", "failed_to_train", "mean",
)  # fmt: skip


def trials_csv(results: Results) -> str:
    """Return every trial as a row of `TRIAL_COLUMNS`.

    The judged rows of a size and a strategy have the mean that the page shows.
    """
    return _text(TRIAL_COLUMNS, ([_trial_value(row, name) for name in TRIAL_COLUMNS] for row in results.rows))


def verdict_csv(results: Results, verdicts: Mapping[int, Verdict]) -> str:
    """Return every candidate at every size as a row of `VERDICT_COLUMNS`.

    score, low, high, expected_loss: in the metric's own unit; mean: that of its runs, uncorrected.
    failed_to_train: runs without a finite score. gflops: not counted yet.
    """
    rows = (
        [_verdict_value(results, verdict, candidate, name) for name in VERDICT_COLUMNS]
        for _, verdict in sorted(verdicts.items())
        for candidate in verdict.every_candidate
    )
    return _text(VERDICT_COLUMNS, rows)


def _trial_value(row: Row, name: str) -> object:
    if name in SCORES:
        return row.scores.get(name)
    if name == "strategy":
        return _spelled(row.strategy)
    return getattr(row.strategy if name in Space.model_fields else row, name)


def _verdict_value(results: Results, verdict: Verdict, candidate: Candidate, name: str) -> object:
    if name == "size":
        return verdict.size
    if name == "strategy":
        return _spelled(candidate.strategy)
    if name == "status":
        return status(verdict, candidate)
    if name == "runs":
        return candidate.repeats
    if name == "failed_to_train":
        own = [row for row in results.confirmed(verdict.size) if row.strategy == candidate.strategy]
        return sum(row.state == "FAIL" for row in own)
    return getattr(candidate, name, None)


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
