"""Nominees, candidates and the confirm trials that they need, from rows alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search.storage.location import StudyLocation
from search.verdict.results import Results
from strategies import FreezingStrategy
from tests.search.verdict.rows import row

REPEATS = 8


PROBE, OTHER_PROBE = (FreezingStrategy(freeze_depth=4, head_lr=rate) for rate in (1e-3, 1e-2))
FULL, OTHER_FULL, THIRD_FULL = (FreezingStrategy(freeze_depth=0, head_lr=rate) for rate in (1e-3, 1e-2, 1e-1))
ROWS = (
    row(0, PROBE, 1.0, baseline=True),
    row(1, FULL, 0.9, baseline=True),
    row(2, THIRD_FULL, 0.8, baseline=True),
    row(3, OTHER_FULL, 0.7),
    row(4, OTHER_PROBE, 1.1),
)


def results_of(spec, rows=ROWS, *, metric="loss", **confirm):
    spec = spec.changed(task={"metric": metric}, search={"trials": len(rows)}, confirm={"repeats": REPEATS} | confirm)
    return Results(
        location=StudyLocation.of("tiny", out=Path("studies"), storage=None), spec=spec, num_groups=4, rows=tuple(rows)
    )  # fmt: skip


def numbers(families):
    return [[one.number for one in family] for family in families]


def run(results, value, *, order=None, most=1, steps=1000):
    """Run needed trials, `most` at a time in some order; `value` is a function of number and repeat."""
    order = order or np.random.default_rng(0)
    explored = {one.number: one for one in results.explored(50)}
    for _ in range(steps):
        missing = sorted(
            results.needed_confirm_trials(50) - {(one.source_trial, one.repeat) for one in results.confirmed(50)}
        )
        if not missing:
            break
        for number, repeat in order.permutation(missing)[:most].tolist():
            again = replace(
                explored[number], number=len(results.rows), source_trial=number, repeat=repeat, baseline=False,
                value=value(number, repeat),
                scores={results.metric.attribute: 0.5 + 0.01 * number + 0.03 * np.sin(7 * number * repeat)},
            )  # fmt: skip
            results = replace(results, rows=(*results.rows, again))
    return results


def test_nominees_are_the_best_trial_and_the_best_baseline(spec):
    assert numbers(results_of(spec).nominees(50)) == [[0], [3, 2]]


def test_nominees_name_a_baseline_sampled_again_once(spec):
    again = row(5, THIRD_FULL, 0.6)
    assert numbers(results_of(spec, [*ROWS, again]).nominees(50)) == [[0], [5]]


def test_nominees_are_complete_trials(spec):
    rows = [replace(one, state="PRUNED" if one.number == 3 else "FAIL") for one in ROWS if one.number in (2, 3)]
    assert numbers(results_of(spec, [*ROWS[:2], *rows, ROWS[4]]).nominees(50)) == [[0], [1]]


def test_first_the_head_to_head_repeats_are_needed(spec):
    results = results_of(spec)
    assert results.needed_confirm_trials(50) == {(number, repeat) for number in (0, 2, 3) for repeat in (1, 2)}
    assert numbers([results.candidates(50)]) == [[0, 3]]


@pytest.mark.parametrize("through", [2, 3])
@pytest.mark.parametrize("repeats", [1, 2, 5, REPEATS])
def test_head_to_head_winner_races_alone_in_any_order(spec, through, repeats):
    def value(number, repeat):
        return 0.5 if number == through else 0.9 - 0.1 * repeat

    found = []
    for seed, most in ((0, 1), (1, 3), (2, 100)):
        results = run(results_of(spec, repeats=repeats), value, order=np.random.default_rng(seed), most=most)
        assert numbers([results.candidates(50)]) == [[0, through]]
        assert results.is_confirmed(50)
        found.append({(one.source_trial, one.repeat) for one in results.confirmed(50)})
    assert found[0] == found[1] == found[2]
    (out,) = {2, 3} - {through}
    assert {repeat for number, repeat in found[0] if number == out} == {*range(1, min(repeats, 2) + 1)}
    assert {repeat for number, repeat in found[0] if number == through} >= {*range(1, min(repeats, 5) + 1)}


@pytest.mark.parametrize("state", ["FAIL", "PRUNED"])
def test_candidates_lose_head_to_head_by_a_failed_run(spec, state):
    results = results_of(spec)
    for number in (2, 3):
        failed = run(results, lambda number, repeat: 1.0)
        rows = [
            replace(one, state=state, value=None if state == "FAIL" else -9.0, scores={})
            if (one.source_trial, one.repeat) == (number, 2)
            else one
            for one in failed.rows
        ]
        assert numbers([replace(failed, rows=tuple(rows)).candidates(50)]) == [[0, 5 - number]]


def test_most_confirms_is_never_below_the_trials_run(spec):
    results = results_of(spec)
    empty, trials = replace(results, rows=()), results.spec.search.trials
    assert empty.most_confirms(50, families=2) == 2 * (REPEATS + 2)
    assert empty.most_confirms(50, families=trials - 1) == (trials - 1) * REPEATS + 2, "so many trials there are"
    assert empty.most_confirms(50, families=trials + 1) == trials * REPEATS
    assert results.most_confirms(50, families=6) == 2 * REPEATS + 2
    half = run(results, lambda number, repeat: float(number))
    grown = results_of(spec, [*ROWS, row(5, FreezingStrategy(freeze_depth=0, head_lr=0.5), 0.1)])
    grown = replace(grown, rows=(*grown.rows, *(one for one in half.rows if one.confirms)))  # with a former candidate
    while not grown.is_confirmed(50):
        assert len(grown.confirmed(50)) <= grown.most_confirms(50, families=6)
        grown = run(grown, lambda number, repeat: 1.0 - number, steps=1)
    assert len(grown.confirmed(50)) == grown.most_confirms(50, families=6)


def test_candidates_of_a_maximized_metric_have_the_most(spec):
    results = results_of(spec, metric="accuracy")
    assert numbers(results.nominees(50)) == [[4, 0], [1]]
    assert numbers([run(results, lambda number, repeat: float(number)).candidates(50)]) == [[4, 1]]
    assert numbers([run(results, lambda number, repeat: -float(number)).candidates(50)]) == [[0, 1]]


def test_candidates_without_repeats_are_the_best_trials(spec):
    results = results_of(spec, repeats=0)
    assert results.needed_confirm_trials(50) == set()
    assert numbers([results.candidates(50)]) == [[0, 3]]
