"""Candidates and confirm trials of a study's sizes, from rows alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search.storage.location import StudyLocation
from search.verdict.results import Results
from strategies import FreezingStrategy
from tests.search.verdict.rows import row
from tests.search.verdict.test_confirm import FULL, OTHER_FULL, OTHER_PROBE, PROBE, ROWS, THIRD_FULL

REPEATS = 8


def results_of(spec, rows=ROWS, *, metric="loss", repeats=REPEATS, **facts):
    spec = spec.changed(task={"metric": metric}, search={"trials": len(ROWS)}, confirm={"repeats": repeats})
    location = StudyLocation.of("tiny", out=Path("studies"), storage=None)
    return Results(location=location, spec=spec, num_groups=4, rows=tuple(rows), **facts)


def score(strategy, repeat):
    return 0.5 + 0.1 * np.log10(strategy.head_lr) + 0.03 * np.sin(1000 * strategy.head_lr * repeat)


def run(results, *, size=50, order=None, most=1, steps=1000):
    """Run needed trials, `most` at a time in some order."""
    order = order or np.random.default_rng(0)
    for _ in range(steps):
        tried = {(one.strategy, one.repeat) for one in results.confirmed(size)}
        missing = sorted(results.needed_confirm_trials(size) - tried, key=repr)
        if not missing:
            break
        new = [
            row(
                len(results.rows) + place, missing[index][0], size=size, repeat=missing[index][1], judged=True,
                scores={results.metric.attribute: score(*missing[index])},
            )
            for place, index in enumerate(order.permutation(len(missing))[:most])
        ]  # fmt: skip
        results = replace(results, rows=(*results.rows, *new))
    return results


@pytest.mark.parametrize("repeats", [1, 2, 5, REPEATS])
def test_confirm_trials_are_the_same_in_any_order(spec, repeats):
    found = []
    for seed, most in ((0, 1), (1, 3), (2, 100)):
        results = run(results_of(spec, repeats=repeats), order=np.random.default_rng(seed), most=most)
        assert results.is_confirmed(50)
        found.append({(one.strategy, one.repeat) for one in results.confirmed(50)})
    assert found[0] == found[1] == found[2]
    assert {one for one, _ in found[0]} == {PROBE, OTHER_FULL, THIRD_FULL}
    for one in (PROBE, OTHER_FULL, THIRD_FULL):
        assert {repeat for other, repeat in found[0] if other == one} >= {*range(1, min(repeats, 5) + 1)}


def test_candidates_are_known_once_the_size_is_explored(spec):
    running = [*ROWS[:-1], replace(ROWS[-1], state="RUNNING")]
    for rows in (ROWS[:-1], running):
        assert results_of(spec, rows).candidates(50) == []
        assert not results_of(spec, rows).is_confirmed(50)
        assert not results_of(spec, rows).is_finished([50])
    assert results_of(spec).candidates(50) == [PROBE, OTHER_FULL, THIRD_FULL]


def test_confirmed_leaves_out_former_candidates(spec):
    results = run(results_of(spec))
    better = row(len(results.rows), FreezingStrategy(freeze_depth=0, head_lr=0.5), 0.1)
    grown = replace(results, rows=(*results.rows, better))
    assert {one.strategy for one in results.confirmed(50)} == {PROBE, OTHER_FULL, THIRD_FULL}
    assert {one.strategy for one in grown.confirmed(50)} == {PROBE, THIRD_FULL}
    assert not grown.is_confirmed(50)


def test_most_confirms_is_never_below_the_trials_run(spec):
    results = results_of(spec)
    empty, trials = replace(results, rows=()), len(ROWS)
    assert empty.most_confirms(50, families=2) == 4 * REPEATS
    assert empty.most_confirms(50, families=trials) == trials * REPEATS, "so many trials there are"
    assert results.most_confirms(50, families=6) == 3 * REPEATS
    half = run(results, steps=7)
    better = row(len(half.rows), FreezingStrategy(freeze_depth=0, head_lr=0.5), 0.1)
    grown = replace(half, rows=(*half.rows, better))  # with a former candidate
    while not grown.is_confirmed(50):
        assert len(grown.confirmed(50)) <= grown.most_confirms(50, families=6)
        grown = run(grown, steps=1)
    assert len(grown.confirmed(50)) == grown.most_confirms(50, families=6)


def test_candidates_without_repeats_need_no_trials(spec):
    results = results_of(spec, repeats=0)
    assert results.candidates(50) == [PROBE, OTHER_FULL, THIRD_FULL]
    assert results.needed_confirm_trials(50) == set()


# -- sizes that leave too few labels to search by ------------------------------------------------------------

BASELINES = (PROBE, FULL)


def test_unexplored_size_runs_baselines_and_what_others_found(spec):
    results = results_of(spec, unexplored=frozenset({80}), baselines=BASELINES)
    assert results.candidates(80) == [PROBE, FULL, OTHER_FULL], "each family's best at 50; one is a baseline"
    assert results.is_explored(80)
    assert not results.is_finished([50, 80])
    done = run(run(results), size=80)
    assert done.is_finished([50, 80])
    assert {one.strategy for one in done.confirmed(80)} == {PROBE, FULL, OTHER_FULL}
    assert {one.size for one in done.explored(50)} == {50}
    assert done.explored(80) == []


def test_unexplored_size_takes_the_next_smaller_explored_one(spec):
    best = row(0, OTHER_PROBE, 0.0, size=60)
    rows = [replace(one, size=60, number=one.number + 1) for one in ROWS[:-1]]
    more = [*ROWS, best, *rows, row(0, THIRD_FULL, size=70, repeat=1, judged=True)]
    results = results_of(spec, more, unexplored=frozenset({70, 80}), baselines=BASELINES)
    assert results.candidates(80) == results.candidates(70) == [PROBE, FULL, OTHER_PROBE, OTHER_FULL]


def test_unexplored_size_waits_for_the_smaller_one(spec):
    results = results_of(spec, ROWS[:-1], unexplored=frozenset({80}), baselines=BASELINES)
    assert results.candidates(80) == []
    assert not results.is_confirmed(80)


def test_unexplored_sizes_alone_run_the_baselines(spec):
    results = results_of(spec, (), unexplored=frozenset({40, 80}), baselines=BASELINES, all=80)
    assert results.candidates(40) == results.candidates(80) == [PROBE, FULL]
    done = run(run(results, size=40), size=80)
    assert done.is_finished([40, "all"])
    assert done.sizes == [40, 80]


def test_size_of_all_is_known_once_the_data_were_loaded(spec):
    assert results_of(spec, all=96).size("all") == 96
    assert results_of(spec).size("all") == 0
    assert not results_of(spec).is_finished(["all"])
    assert results_of(spec).size(50) == 50
