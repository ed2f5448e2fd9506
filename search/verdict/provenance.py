"""The origin of a study's answers, in words for files."""

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from search.verdict.results import Results
from search.verdict.rows import Row


def provenance(results: Results, rows: Iterable[Row]) -> dict[str, Any]:
    """Return data, network, metric, date and version of an answer that follows from rows.

    date: when the last of them ended, in UTC; left out where the database does not say. No answer depends on where the
    study is stored, so nothing here names its database.
    """
    task, model, source = results.spec.task, results.spec.model, results.spec.source
    if not isinstance(model.weights, str):
        weights = ", module ".join(filter(None, [model.weights.checkpoint, model.weights.module]))
    else:
        weights = model.weights if source is None else f"trained on {source.data}"
    ends = [row.ended for row in rows if row.ended is not None]
    return {
        "data": task.data,
        "metric": results.metric.name,
        "backbone": model.backbone,
        "weights": weights,
        **({"date": f"{max(ends):%Y-%m-%dT%H:%M:%SZ}"} if ends else {}),
        "version": version("frostline"),
    }
