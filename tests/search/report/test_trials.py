from dataclasses import replace

import pytest

from search.report.trials import curves, history
from search.storage.location import StudyLocation
from search.verdict.load import load_results


@pytest.fixture(scope="module")
def rows(finished):
    return load_results(StudyLocation.of("tiny", out=finished / "studies", storage=None)).explored(40)


def test_the_history_has_every_value_and_pruned_trials_are_open(rows):
    some = [replace(row, state="PRUNED") if row.number % 3 == 1 else row for row in rows]
    figure = history(some, metric="val_loss", maximize=False)
    shown = {
        x: (y, symbol)
        for trace in figure.data[:-1]
        for x, y, symbol in zip(trace.x, trace.y, trace.marker.symbol, strict=True)
    }
    for row in some:
        if row.value is not None:
            value, symbol = shown[row.number]
            assert value == row.value
            assert symbol.endswith("-open") == (row.state == "PRUNED")
    best = figure.data[-1]
    assert list(best.y) == sorted(best.y, reverse=True)
    assert not set(best.x) & {row.number for row in some if row.state == "PRUNED"}


def test_curves_are_one_a_trial_and_one_a_family_in_the_legend(rows):
    figure = curves(rows, metric="val_loss")
    assert sorted(tuple(zip(trace.x, trace.y, strict=True)) for trace in figure.data) == sorted(
        row.curve for row in rows if row.curve
    )
    named = [trace.name for trace in figure.data if trace.showlegend]
    assert sorted(named) == sorted({row.family for row in rows if row.curve})


@pytest.mark.parametrize(
    ("values", "kind"), [([1.0, 2.0], None), ([0.1, 2.0], "log"), ([1.0, float("inf")], None), ([], None)]
)
def test_losses_are_on_a_logarithmic_axis_where_they_span_much(rows, values, kind):
    some = [replace(row, value=value) for row, value in zip(rows, values, strict=False)]
    assert history(some, metric="val_loss", maximize=False).layout.yaxis.type == kind
    assert history(some, metric="val_accuracy", maximize=True).layout.yaxis.type is None
