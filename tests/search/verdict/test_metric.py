import pytest

from search.verdict.metric import METRICS

ACCURACY, MSE = METRICS["classification"], METRICS["regression"]


@pytest.mark.parametrize(
    ("metric", "score", "low", "high", "text"),
    [
        (ACCURACY, 0.951, 0.94, 0.962, "95.1 % (94.0-96.2)"),
        (ACCURACY, 1.0, 1.0, 1.0, "100.0 % (100.0-100.0)"),
        (MSE, 0.123, 0.11, 0.14, "0.123 (0.110-0.140)"),
        (MSE, 12.34, 9.0, 15.0, "12.3 (9.0-15.0)"),
        (MSE, 4321.0, 0.0, 5000.0, "4321 (0-5000)"),
        (MSE, 0.0, 0.0, 0.0, "0.000 (0.000-0.000)"),
        (MSE, 1.2e-7, 0.0, 2e-7, "1.20e-07 (0.00e+00-2.00e-07)"),
    ],
)
def test_interval_has_the_decimals_of_the_score(metric, score, low, high, text):
    assert metric.interval(score, low, high) == text
    assert metric.interval(score, low, high, unit=False) == text.replace(" %", "")


def test_margin_is_in_points_or_a_share():
    assert ACCURACY.margin(0.01) == "1 point"
    assert ACCURACY.margin(0.015) == "1.5 points"
    assert MSE.margin(0.05) == "5 % of the score"


def test_rounded_keeps_the_digits_of_small_errors():
    assert MSE.rounded(0.000123456) == 0.0001235
    assert ACCURACY.rounded(0.951234) == 0.9512
