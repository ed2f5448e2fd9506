from math import inf, nan
from typing import get_args

import pytest

from search.spec.values import MetricName
from search.verdict.metric import METRICS, fitting, metric_of

ACCURACY, LOSS, R2 = METRICS["accuracy"], METRICS["loss"], METRICS["r2"]


@pytest.mark.parametrize(
    ("metric", "score", "low", "high", "text"),
    [
        (ACCURACY, 0.951, 0.94, 0.962, "95.1 % (94.0-96.2)"),
        (ACCURACY, 1.0, 1.0, 1.0, "100.0 % (100.0-100.0)"),
        (LOSS, 0.123, 0.11, 0.14, "0.123 (0.110-0.140)"),
        (LOSS, 12.34, 9.0, 15.0, "12.3 (9.0-15.0)"),
        (LOSS, 4321.0, 0.0, 5000.0, "4321 (0-5000)"),
        (LOSS, 0.0, 0.0, 0.0, "0.000 (0.000-0.000)"),
        (LOSS, 1.2e-7, 0.0, 2e-7, "1.20e-07 (0.00e+00-2.00e-07)"),
        (R2, 0.853, 0.81, 0.88, "0.853 (0.810-0.880)"),
        (R2, -0.12, -0.31, 0.05, "-0.120 (-0.310 to 0.050)"),
    ],
)
def test_interval_has_the_decimals_of_the_score(metric, score, low, high, text):
    assert metric.interval(score, low, high) == text
    assert metric.interval(score, low, high, unit=False) == text.replace(" %", "")


def test_margin_is_in_points_a_share_or_the_metrics_unit():
    assert ACCURACY.margin(0.01) == "1 point"
    assert ACCURACY.margin(0.015) == "1.5 points"
    assert LOSS.margin(0.05) == "5 % of the score"
    assert R2.margin(0.01) == "0.01"


def test_rounded_keeps_the_digits_of_small_errors():
    assert LOSS.rounded(0.000123456) == 0.0001235
    assert ACCURACY.rounded(0.951234) == 0.9512


def test_every_word_of_a_study_file_is_a_metric():
    assert [*METRICS] == [*get_args(MetricName)]
    assert all(metric.name == name for name, metric in METRICS.items())


def test_default_metric_is_of_the_kind_of_task():
    assert metric_of(None, "classification") is ACCURACY
    assert metric_of(None, "regression") is METRICS["rmse"]
    assert metric_of("loss", "classification") is metric_of("loss", "regression") is LOSS


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_metric_of_an_own_module_is_its_loss(kind):
    """It is whatever the module logs, so it may be below 0; a share remains one."""
    loss, accuracy = metric_of(None, kind, own=True), metric_of("accuracy", kind, own=True)
    assert (loss.name, loss.higher_is_better, loss.own, loss.allows(-3.0)) == ("loss", False, True, True)
    assert (accuracy.name, accuracy.own, accuracy.allows(60.0)) == ("accuracy", True, False)
    names = {kind: [metric.name for metric in fitting(kind)] for kind in ("classification", "regression")}
    assert names["regression"] == ["loss", "mae", "rmse", "r2"]
    assert set(names["classification"]) == METRICS.keys() - {"mae", "rmse", "r2"}


def test_allows_scores_in_range_and_nan():
    assert all(ACCURACY.allows(score) for score in (0.0, 1.0, nan))
    assert not any(ACCURACY.allows(score) for score in (-0.1, 1.1, inf))
    assert not LOSS.allows(-0.1)
    assert R2.allows(-7.0)
    assert not R2.allows(1.1)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_error_is_its_own_inverse_and_less_is_better(metric):
    better, worse = (0.8, 0.3) if metric.higher_is_better else (0.3, 0.8)
    assert 0 <= metric.error(better) < metric.error(worse) <= metric.largest_error
    assert metric.error(metric.error(0.3)) == pytest.approx(0.3)
