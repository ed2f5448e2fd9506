from dataclasses import replace

import pytest

from search.report.trials import best_so_far, curves, history
from search.storage.location import StudyLocation
from search.verdict.load import load_results
from search.verdict.metric import METRICS


@pytest.fixture(scope="module")
def rows(finished):
    return load_results(StudyLocation.of("tiny", out=finished / "studies", storage=None)).explored(40)


def test_history_draws_pruned_trials_open(rows):
    some = [replace(row, state="PRUNED") if row.number % 3 == 1 else row for row in rows]
    *points, best = history(some, metric=METRICS["loss"]).data
    shown = {
        x: (y, symbol.endswith("-open"))
        for trace in points
        for x, y, symbol in zip(trace.x, trace.y, trace.marker.symbol, strict=True)
    }
    assert shown == {row.number: (row.value, row.state == "PRUNED") for row in some if row.value is not None}
    assert list(zip(best.x, best.y, strict=True)) == best_so_far(some, metric=METRICS["loss"])


@pytest.mark.parametrize(("metric", "best"), [("loss", [3.0, 2.0, 2.0]), ("accuracy", [3.0, 3.0, 4.0])])
def test_best_so_far_skips_pruned_trials(rows, metric, best):
    states, values = ("COMPLETE", "PRUNED", "COMPLETE", "COMPLETE"), (3.0, 9.0, 2.0, 4.0)
    some = [
        replace(rows[number], number=number, state=state, value=value)
        for number, (state, value) in enumerate(zip(states, values, strict=True))
    ]
    assert best_so_far(some, metric=METRICS[metric]) == list(zip((0, 2, 3), best, strict=True))


def test_curves_name_each_family_once(rows):
    figure = curves(rows, metric=METRICS["loss"])
    assert sorted(tuple(zip(trace.x, trace.y, strict=True)) for trace in figure.data) == sorted(
        row.curve for row in rows if row.curve
    )
    named = [trace.name for trace in figure.data if trace.showlegend]
    assert sorted(named) == sorted({row.family for row in rows if row.curve})


@pytest.mark.parametrize(
    ("values", "kind"), [([1.0, 2.0], None), ([0.1, 2.0], "log"), ([1.0, float("inf")], None), ([], None)]
)
def test_history_has_a_log_axis_for_losses_that_span_much(rows, values, kind):
    some = [replace(row, value=value) for row, value in zip(rows, values, strict=False)]
    assert history(some, metric=METRICS["loss"]).layout.yaxis.type == kind
    assert history(some, metric=METRICS["accuracy"]).layout.yaxis.type is None
