from dataclasses import replace
from math import exp, log

import numpy as np
import pytest

from search import StudyError
from search.spec.study_spec import StudySpec
from search.storage.location import OUT, StudyLocation
from search.verdict.judge import Verdict, near_optimal
from search.verdict.metric import metric_of
from search.verdict.other_sizes import MAX_TIMES_LARGER, MAX_TIMES_SMALLER, estimate, frost_line
from search.verdict.results import Results
from strategies import FreezingStrategy
from tests.search.verdict.rows import GROUPS, candidate, row

STRATEGIES = {
    "linear probing": FreezingStrategy(freeze_depth=4),
    "partial freezing": FreezingStrategy(freeze_depth=2),
    "full fine-tuning": FreezingStrategy(freeze_depth=0, head_lr=3e-3),
}


def results_of(rows=()):
    spec = StudySpec.from_dict(
        {
            "task": {"data": "digits", "sizes": [50], "metric": "loss"},
            "model": {"backbone": "small_cnn", "weights": "none"},
        },
        where="the test",
    )
    return Results(
        location=StudyLocation.of("study", out=OUT, storage=None), spec=spec, num_groups=GROUPS, rows=tuple(rows)
    )


def verdict_of(size, errors, *, half=0.01, kind="classification", recommended=None):
    """Return a verdict from families' errors: all contend, the leader is recommended unless one is named."""
    metric = metric_of(None, kind)
    sign, start = (-1, 1.0) if metric.higher_is_better else (1, 0.0)
    found = []
    for family, error in sorted(errors.items(), key=lambda item: item[1]):
        ends = sorted(start + sign * error * factor for factor in (exp(-half), exp(half)))
        more = {"low": ends[0], "high": ends[1], "p_best": 1 / len(errors)}
        found.append(candidate(family, start + sign * error, strategy=STRATEGIES[family], **more))
    taken = next(c for c in found if c.family == (recommended or found[0].family))
    return Verdict(
        size=size, repeats=5, candidates=tuple(found), every_candidate=tuple(found), winner=None, recommended=taken,
        near_optimal=tuple(c.strategy for c in found), metric=metric,
    )  # fmt: skip


def estimated(verdicts, size):
    return estimate(results_of(), verdicts, size=size)


def power_law(sizes, *, bend=0.0, **options):
    """Return verdicts whose errors are 2 size**-0.5 at two sizes, and `bend` off that line in between."""
    first, last = log(sizes[0]), log(sizes[-1])
    curve = {n: 2 * n**-0.5 * exp(bend * (log(n) - first) * (last - log(n))) for n in sizes}
    return {n: verdict_of(n, {"partial freezing": curve[n]}, **options) for n in sizes}


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("size", [25, 70, 150, 900])
def test_estimate_continues_a_power_law(kind, size):
    found = estimated(power_law([50, 100, 400], kind=kind), size)
    error = 2 * size**-0.5
    assert found.score == pytest.approx(1 - error if kind == "classification" else error)
    assert found.low < found.score < found.high


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("size", [50, 60, 99, 102, 150, 303])
def test_estimate_does_not_carry_noise_far(kind, size):
    for errors in ((0.73, 0.70), (0.70, 0.73), (0.10, 0.05), (0.5, 1e-9)):
        verdicts = {
            n: verdict_of(n, {"partial freezing": e}, kind=kind) for n, e in zip((100, 101), errors, strict=True)
        }
        found = estimated(verdicts, size)
        error = 1 - found.score if kind == "classification" else found.score
        least, most = min(errors), max(errors)
        assert least * (least / most) ** 2 - 1e-9 <= error <= most * (most / least) ** 2
        assert np.isfinite([found.low, found.high]).all()
        if size < 100:
            assert error >= errors[0] * (1 - 1e-9), "fewer labels promise no better than the smallest size got"


def test_estimate_is_least_certain_far_from_every_size():
    verdicts = power_law([1000, 4000, 16000], bend=0.1)
    own = verdicts[4000].candidates[0]
    near = estimated(verdicts, 4001)
    assert (near.low, near.score, near.high) == pytest.approx((own.low, own.score, own.high), abs=2e-4)
    # As a share of the error, that the size makes smaller.
    widths = [
        (found.high - found.low) / (1 - found.score)
        for found in (estimated(verdicts, size) for size in (1001, 1300, 2000, 3000, 3999))
    ]
    assert max(widths) == widths[2]
    beyond = [estimated(verdicts, size) for size in (17000, 24000, 48000)]
    widths = [(found.high - found.low) / (1 - found.score) for found in beyond]
    assert widths == sorted(widths)


@pytest.mark.parametrize("bend", [-0.2, 0.2])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_estimate_covers_a_curve_that_bends(bend, count):
    sizes = [50 * 3**place for place in range(count)]
    verdicts = power_law(sizes, bend=bend, half=1e-4)
    truth = power_law([sizes[0], 90, sizes[-1]], bend=bend)[90].candidates[0].score
    found = estimated(verdicts, 90)
    assert found.low <= truth <= found.high
    assert abs(found.score - truth) > 1e-3 or count == 2, "it would be, were the interval no wider than the noise"


def test_estimate_takes_the_strategy_of_the_nearest_size():
    errors = {"linear probing": 0.2, "partial freezing": 0.19, "full fine-tuning": 0.18}
    verdicts = {
        size: verdict_of(size, errors, recommended=family)
        for size, family in zip((50, 200, 800), STRATEGIES, strict=True)
    }
    for size, source in {25: 50, 60: 50, 99: 50, 100: 200, 399: 200, 400: 800, 2400: 800}.items():
        found = estimated(verdicts, size)
        assert found.source == source
        assert found.candidate == verdicts[source].recommended
        assert found.source in found.sizes


def test_estimate_ignores_units():
    errors = {100: 0.3, 200: 0.2, 800: 0.15}
    verdicts = {n: verdict_of(n, {"linear probing": error}, kind="regression") for n, error in errors.items()}
    tenfold = {10 * n: verdict_of(10 * n, {"linear probing": 7 * e}, kind="regression") for n, e in errors.items()}
    for size in (60, 150, 500, 2000):
        one, other = estimated(verdicts, size), estimated(tenfold, 10 * size)
        assert (other.score, other.low, other.high) == pytest.approx((7 * one.score, 7 * one.low, 7 * one.high))


def test_estimate_stays_within_the_metric():
    verdicts = {50: verdict_of(50, {"linear probing": 0.8}), 60: verdict_of(60, {"linear probing": 0.1})}
    verdicts[70] = verdict_of(70, {"linear probing": 0.0})
    for size in range(25, 211):
        if size not in verdicts:
            found = estimated(verdicts, size)
            assert 0 <= found.low <= found.score <= found.high <= 1


def test_estimate_joins_recommended_strategies_of_any_family():
    verdicts = {50: verdict_of(50, {"full fine-tuning": 0.15, "linear probing": 0.2}, recommended="linear probing")}
    best = {"partial freezing": 0.05, "full fine-tuning": 0.1}
    verdicts[200] = verdict_of(200, best, recommended="full fine-tuning")
    found = estimated(verdicts, 100)
    assert found.candidate.family == "full fine-tuning"
    assert found.score == pytest.approx(1 - (0.2 * 0.1) ** 0.5)


def test_estimate_far_outside_is_refused():
    verdicts = power_law([50, 100])
    least, most = 50 // MAX_TIMES_SMALLER, 100 * MAX_TIMES_LARGER
    assert estimated(verdicts, least).source == 50
    assert estimated(verdicts, most).source == 100
    for size in (least - 1, most + 1):
        with pytest.raises(StudyError, match=f"not run at size {size}.*50, 100, it can estimate sizes from 25 to 300"):
            estimated(verdicts, size)


def test_estimate_needs_two_confirmed_sizes():
    with pytest.raises(StudyError, match="takes two confirmed sizes; confirmed: 50"):
        estimated(power_law([50]), 60)
    with pytest.raises(StudyError, match="confirmed: none"):
        estimated({}, 60)


# -- near-optimal sets and the frost line --------------------------------------------------------------------


def searched(values, differences):
    """Return a study explored by freeze depth, with two candidates whose values differ so over repeats."""
    known = {one.freeze_depth: one for one in STRATEGIES.values()}
    strategies = [known.get(depth, FreezingStrategy(freeze_depth=depth)) for depth, _ in values]
    rows = [row(n, one, value) for n, (one, (_, value)) in enumerate(zip(strategies, values, strict=True))]
    results = results_of(rows)
    results = replace(results, spec=results.spec.changed(search={"trials": len(rows)}))
    for repeat, difference in enumerate(differences, start=1):
        for one, value in zip(results.candidates(50)[:2], (10.0 * repeat, 10.0 * repeat + difference), strict=True):
            scores = {"test_accuracy": 0.5, "test_loss": 0.5}
            rows.append(row(len(rows), one, value, repeat=repeat, judged=True, scores=scores))
    return replace(results, rows=tuple(rows))


def test_near_optimal_contends_or_is_within_the_noise():
    # A standard deviation of 0.1 between candidates; what the repeat does to both alike is no part of it.
    spread = 0.1 * np.array([1, 1, -1, -1]) * np.sqrt(3 / 4)
    results = searched([(4, 0.5), (0, 0.9), (1, 0.66), (3, 0.67)], spread)
    verdict = verdict_of(50, {"linear probing": 0.2, "full fine-tuning": 0.21})
    depths = {strategy.freeze_depth for strategy in near_optimal(results, 50, verdict.candidates)}
    assert depths == {4, 0, 1}, "the best, a contender however it explored, and what is 1.6 deviations behind"
    steady = searched([(4, 0.5), (0, 0.9), (1, 0.66), (3, 0.67)], 0 * spread)
    assert {strategy.freeze_depth for strategy in near_optimal(steady, 50, verdict.candidates)} == {4, 0}


def test_near_optimal_of_a_maximized_metric_is_the_same():
    values, spread = [(4, 0.5), (0, 0.9), (1, 0.66), (3, 0.67)], 0.1 * np.array([1, 1, -1, -1]) * np.sqrt(3 / 4)
    results = searched(values, spread)
    spec = results.spec.changed(task={"metric": "accuracy"})
    mirrored = replace(results, spec=spec, rows=tuple(replace(row, value=-row.value) for row in results.rows))
    verdict = verdict_of(50, {"linear probing": 0.2, "full fine-tuning": 0.21})
    assert near_optimal(mirrored, 50, verdict.candidates) == near_optimal(results, 50, verdict.candidates)


def test_frost_line_has_the_recommended_depth_in_its_band():
    verdicts = {50: verdict_of(50, {"linear probing": 0.2}), 400: verdict_of(400, {"full fine-tuning": 0.2})}
    found = frost_line(verdicts, num_groups=GROUPS)
    assert (found.sizes, found.recommended) == ((50, 400), (4, 0))
    for low, depth, high in zip(found.lowest, found.recommended, found.highest, strict=True):
        assert low <= depth <= high
