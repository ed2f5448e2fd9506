"""Verdicts from rows, on regression studies at size 50."""

from dataclasses import replace

import numpy as np
import pytest

from search.spec.study_spec import StudySpec
from search.storage.location import OUT, StudyLocation
from search.verdict.judge import _cheapest, judge
from search.verdict.race import Course
from search.verdict.results import Results
from strategies import FreezingStrategy
from tests.search.verdict.rows import GROUPS, candidate, row

STRATEGIES = [
    FreezingStrategy(freeze_depth=4),
    FreezingStrategy(freeze_depth=2),
    FreezingStrategy(freeze_depth=0),
    FreezingStrategy(freeze_depth=1, unfreeze_epoch=2),
]
"""One a family."""


def regression(errors, *, margin=0.01, outcomes=True, strategies=STRATEGIES, **facts):
    """Return a regression study from squared errors (repeats, strategies, examples)."""
    repeats, count, examples = errors.shape
    spec = StudySpec.from_dict(
        {
            "task": {"data": "digits", "sizes": [50], "metric": "loss"},
            "model": {"backbone": "small_cnn", "weights": "none"},
            "search": {"trials": count},
            "confirm": {"repeats": repeats, "margin": margin},
        },
        where="the test",
    )
    # The first explored best; a second strategy of a family is its best baseline.
    rows = [
        row(number, one, 1.0 + number, baseline=number >= len(STRATEGIES), seconds=1.0 + number)
        for number, one in enumerate(strategies[:count])
    ]
    for repeat, number in np.ndindex(repeats, count):
        own = errors[repeat, number]
        rows.append(
            replace(
                rows[number], repeat=repeat + 1, judged=True, scores={"test_loss": own.mean()},
                test_se=own.std(ddof=1) / np.sqrt(examples), test_examples=examples,
                example_scores=own if outcomes else None,
            )
        )  # fmt: skip
    location = StudyLocation.of("x", out=OUT, storage=None)
    return Results(location=location, spec=spec, num_groups=GROUPS, rows=tuple(rows), kind="regression", **facts)


def squared_errors(rng, *, truth, repeats=5, examples=300, repeat_noise=0.05):
    """Draw squared errors with means `truth`: examples differ in difficulty, and repeats in how well they go."""
    truth = np.asarray(truth)[None, :, None]
    hard = rng.lognormal(sigma=0.8, size=(1, 1, examples))
    run = rng.lognormal(sigma=repeat_noise, size=(repeats, truth.shape[1], 1))
    noise = rng.normal(size=(repeats, truth.shape[1], examples)) ** 2
    return truth * hard / np.exp(0.32) * run * noise


def test_judge_seldom_finds_a_winner_among_identical_regressors():
    rng = np.random.default_rng(0)
    verdicts = [judge(regression(squared_errors(rng, truth=[0.3] * 4)), 50) for _ in range(100)]
    assert sum(verdict.winner is not None for verdict in verdicts) <= 5


def test_judge_lets_the_least_error_win():
    rng = np.random.default_rng(1)
    verdicts = [judge(regression(squared_errors(rng, truth=[0.9, 0.2, 0.5])), 50) for _ in range(30)]
    assert sum(verdict.winner is not None and verdict.winner.strategy == STRATEGIES[1] for verdict in verdicts) >= 28
    for verdict in verdicts:
        scores = [candidate.score for candidate in verdict.candidates]
        assert scores == sorted(scores)
        assert verdict.candidates[0].contends
        assert all(0 <= c.low <= c.score <= c.high for c in verdict.candidates)
        assert sum(c.p_best for c in verdict.candidates) == pytest.approx(1)


@pytest.mark.parametrize("unit", [1.0, 1e-6, 1e6])
def test_judge_ignores_the_unit_of_errors(unit):
    errors = squared_errors(np.random.default_rng(2), truth=[0.3, 0.33, 0.5])
    one, other = judge(regression(errors), 50), judge(regression(unit * errors), 50)
    assert one.sentence == other.sentence
    for a, b in zip(one.candidates, other.candidates, strict=True):
        assert (b.score, b.low, b.high) == pytest.approx((unit * a.score, unit * a.low, unit * a.high))
        assert b.p_best == pytest.approx(a.p_best, abs=2e-3)


def test_judge_takes_the_margin_of_errors_as_a_share():
    # No noise at all, so that only the margin keeps a candidate in.
    errors = np.ones((5, 3, 50)) * np.array([1.0, 1.019, 1.021])[None, :, None]
    verdict = judge(regression(errors, margin=0.02), 50)
    assert [candidate.strategy for candidate in verdict.contenders] == STRATEGIES[:2]
    assert [candidate.strategy for candidate in verdict.ruled_out] == [STRATEGIES[2]]


def test_judge_takes_errors_of_zero():
    verdict = judge(regression(np.zeros((5, 2, 50))), 50)
    assert [c.p_best for c in verdict.candidates] == [0.5, 0.5]
    assert [(c.low, c.high) for c in verdict.candidates] == [(0, 0), (0, 0)]


def test_judge_stops_intervals_of_errors_at_zero():
    errors = np.array([0.01, 0.01, 0.01, 0.01, 3.0])[:, None, None] * np.ones((5, 1, 50))
    (candidate,) = judge(regression(errors), 50).candidates
    assert candidate.low == 0.0 < candidate.high


def test_judge_is_more_careful_without_example_scores():
    rng = np.random.default_rng(3)
    for _ in range(10):
        errors = squared_errors(rng, truth=[0.3, 0.36, 0.45])
        here, there = judge(regression(errors), 50), judge(regression(errors, outcomes=False), 50)
        widths = {c.family: c.high - c.low for c in here.candidates}
        assert all(c.high - c.low >= 0.97 * widths[c.family] for c in there.candidates)
        assert {c.family for c in here.contenders} <= {c.family for c in there.contenders}


@pytest.mark.parametrize("lost", [None, np.nan, np.inf])
def test_judge_leaves_out_a_candidate_without_a_finite_score(lost):
    errors = squared_errors(np.random.default_rng(4), truth=[0.1, 0.5, 0.5])
    results = regression(errors)
    rows = tuple(
        replace(r, scores={} if lost is None else {"test_loss": lost})
        if r.repeat == 3 and r.strategy == STRATEGIES[0]
        else r
        for r in results.rows
    )
    verdict = judge(replace(results, rows=rows), 50)
    assert verdict.failed == ("linear probing",)
    assert {c.strategy for c in verdict.candidates} == {*STRATEGIES[1:3]}


def test_judge_waits_for_the_end_of_the_race():
    errors = squared_errors(np.random.default_rng(5), truth=[0.3, 0.31, 3.0], repeats=10)
    results = regression(errors)
    last = next(row for row in results.rows if row.judged and row.repeat == 10)
    running = [replace(row, state="RUNNING") if row is last else row for row in results.rows]
    assert judge(replace(results, rows=tuple(running)), 50) is None
    assert judge(results, 50).repeats == 10


def test_judge_takes_all_repeats_that_were_run():
    results = regression(squared_errors(np.random.default_rng(5), truth=[0.3, 0.31, 3.0], repeats=10))
    assert {c.repeats for c in judge(results, 50).candidates} == {10}


@pytest.mark.parametrize(("seconds", "recommended"), [(1.05, "leads"), (1.2, "is cheap")])
def test_cheapest_ignores_a_saving_that_is_noise(seconds, recommended):
    found = _cheapest([candidate("leads", 0.9, seconds=seconds), candidate("is cheap", 0.89, seconds=1.0)])
    assert found.family == recommended


def test_cheapest_is_by_operations_where_they_are_known():
    slow = candidate("leads", 0.9, seconds=9.0, gflops=1.0)
    assert _cheapest([slow, candidate("looks cheap", 0.89, seconds=1.0, gflops=2.0)]) is slow


def test_judge_takes_the_cost_of_the_fastest_run():
    results = regression(squared_errors(np.random.default_rng(0), truth=[0.3, 0.3]))
    loads = np.random.default_rng(1).choice([1.0, 4.0], size=len(results.rows))
    loads[[row.repeat == 5 for row in results.rows]] = 1.0  # of one repeat they are what they are
    busy = [replace(row, seconds=row.seconds * load) for row, load in zip(results.rows, loads, strict=True)]
    unknown = [replace(row, seconds=None if row.repeat == 2 else row.seconds) for row in busy]
    at_rest, judged = judge(results, 50), judge(replace(results, rows=tuple(unknown)), 50)
    assert judged == at_rest
    assert sorted(c.seconds for c in judged.candidates) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("behind", "noise", "recommended"), [(0.002, 0.005, "linear probing"), (0.15, 0.3, "partial freezing")]
)
def test_judge_recommends_the_cheapest_near_the_best(behind, noise, recommended):
    # By repeats alone: none of them is ruled out, but one may be too far behind to be taken for its cost.
    own = np.random.default_rng(6).normal(scale=noise, size=(5, 3, 1))
    errors = np.array([1 + behind, 1, 1.001])[:, None] + own - own.mean(axis=0) + np.zeros(40)
    verdict = judge(regression(errors), 50)
    assert len(verdict.contenders) == 3
    assert verdict.recommended.family == recommended
    assert verdict.recommended.is_near


def test_judge_tells_runs_that_failed_to_train():
    """Its score is not ruined by one, and it is told."""
    errors = squared_errors(np.random.default_rng(9), truth=[0.3, 0.31, 0.5])
    plain = judge(regression(errors), 50)
    assert {c.failed_to_train for c in plain.every_candidate} == {0}
    errors[2, 1] = 1e9
    results = regression(errors)
    rows = tuple(replace(row, test_trivial=1.0) if row.judged else row for row in results.rows)
    verdict = judge(replace(results, rows=rows), 50)
    told = {c.strategy: c for c in verdict.every_candidate}
    assert [told[one].failed_to_train for one in STRATEGIES[:3]] == [0, 1, 0]
    assert told[STRATEGIES[1]].score < 1, "guessing has 1"
    assert told[STRATEGIES[1]].mean > 1e8, "as it was observed"
    assert {c.strategy for c in verdict.contenders} >= {STRATEGIES[0]}
    leader = next(c for c in plain.every_candidate if c.strategy == STRATEGIES[0])
    assert told[STRATEGIES[0]].high > leader.high + 0.01, "it may fail as well"


@pytest.mark.parametrize("run", [1, 2, 4])
def test_judge_takes_candidates_closed_after_any_repeat(run, monkeypatch):
    """The race may stop a candidate early; its interval is wider, and the others' stay as they were."""
    errors = squared_errors(np.random.default_rng(3), truth=[0.3, 0.31, 0.6], repeats=8)
    whole, results = judge(regression(errors), 50), regression(errors)
    rows = tuple(r for r in results.rows if r.strategy != STRATEGIES[2] or r.repeat <= run)
    course = Course(needed=frozenset((r.strategy, r.repeat) for r in rows if r.judged), decided=8)
    monkeypatch.setattr(Results, "_course", lambda *_: course)
    verdict = judge(replace(results, rows=rows), 50)
    now, before = ({c.strategy: c for c in one.every_candidate} for one in (verdict, whole))
    assert now[STRATEGIES[2]].repeats == run
    widths = {one: (now[one].high - now[one].low) / (before[one].high - before[one].low) for one in now}
    assert widths[STRATEGIES[2]] >= 0.9
    for one in STRATEGIES[:2]:
        assert now[one].mean == before[one].mean
        assert widths[one] == pytest.approx(1, rel=0.15)


# -- several candidates of a family --------------------------------------------------------------------------

OTHER_PROBE, OTHER_PARTIAL = (
    FreezingStrategy(freeze_depth=4, head_lr=1e-2),
    FreezingStrategy(freeze_depth=2, head_lr=1e-2),
)
TWICE = [*STRATEGIES, OTHER_PROBE, OTHER_PARTIAL]
"""Two families have two candidates."""


def test_judge_shows_a_family_by_its_best_candidate():
    errors = squared_errors(np.random.default_rng(7), truth=[0.31, 0.5, 0.5, 0.5, 0.3, 0.45])
    results = regression(errors, strategies=TWICE)
    assert {*results.candidates(50)} == {*TWICE}
    verdict = judge(results, 50)
    every = {c.strategy: c for c in verdict.every_candidate}
    assert every.keys() == {*TWICE}
    assert len(verdict.candidates) == len({c.family for c in verdict.candidates}) == len(STRATEGIES)
    for shown in verdict.candidates:
        own = [c for c in every.values() if c.family == shown.family]
        assert shown.strategy == min(own, key=lambda c: c.mean).strategy
        assert shown.p_best == pytest.approx(sum(c.p_best for c in own))
        assert shown.contends == any(c.contends for c in own)
    assert sum(c.p_best for c in every.values()) == pytest.approx(1)
    for c in every.values():
        assert c.mean == pytest.approx(errors[:, TWICE.index(c.strategy)].mean())
        assert c.baseline == (c.strategy in (OTHER_PROBE, OTHER_PARTIAL))


def test_judge_lets_a_family_win_by_two_alike_candidates():
    errors = squared_errors(np.random.default_rng(8), truth=[0.1, 0.9, 0.9, 0.9, 0.1, 0.9])
    verdict = judge(regression(errors, strategies=TWICE), 50)
    assert max(c.p_best for c in verdict.every_candidate) < 0.975 <= verdict.winner.p_best, "both lead"
    assert verdict.winner.family == "linear probing"
    assert verdict.sentence == f"linear probing wins (P = {verdict.winner.p_best:.2f})"


def test_judge_recommends_any_candidate_of_a_family():
    # The baselines are dearer here, and as good: the cheapest is the first of each family.
    errors = np.ones((5, 6, 50))
    verdict = judge(regression(errors, strategies=TWICE), 50)
    assert verdict.recommended.strategy == STRATEGIES[0]
    results = regression(errors, strategies=TWICE)
    cheap = tuple(replace(row, seconds=0.1) if row.strategy == OTHER_PARTIAL else row for row in results.rows)
    assert judge(replace(results, rows=cheap), 50).recommended.strategy == OTHER_PARTIAL
