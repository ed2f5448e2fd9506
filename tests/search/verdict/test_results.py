"""Candidates and confirm trials of a study's sizes, from rows alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search.storage.location import StudyLocation
from search.verdict.race import KEPT_UNEXPLORED, kept
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
EVERY = [PROBE, FULL, THIRD_FULL, OTHER_FULL, OTHER_PROBE]
BASELINES, PORTFOLIO = (PROBE, FULL), (OTHER_PROBE,)


def results_of(spec, rows=ROWS, *, metric="loss", repeats=REPEATS, trials=5, **facts):
    spec = spec.changed(task={"metric": metric}, search={"trials": trials}, confirm={"repeats": repeats})
    location = StudyLocation.of("tiny", out=Path("studies"), storage=None)
    return Results(location=location, spec=spec, num_groups=4, rows=tuple(rows), **facts)


def score(strategy, repeat):
    return 0.5 + 0.1 * np.log10(strategy.head_lr) + 0.03 * np.sin(1000 * strategy.head_lr * repeat)


def missing(results, sizes):
    return [
        (size, strategy, repeat)
        for size in sizes
        for strategy, repeat in results.needed_confirm_trials(size)
        - {(one.strategy, one.repeat) for one in results.rows if one.judged and one.size == size}
    ]


def run(results, sizes=(50,), *, order=None, most=1, steps=1000, raced=()):
    """Run needed trials, `most` at a time in some order."""
    order = order or np.random.default_rng(0)
    for _ in range(steps):
        if not (open_now := sorted(missing(results, sizes), key=repr)):
            break
        new = []
        for index in order.permutation(len(open_now))[:most]:
            size, strategy, repeat = open_now[index]
            found = score(strategy, repeat)
            scores = {results.metric.attribute: found, results.metric.validated: found}
            number = len(results.rows) + len(new)
            new.append(row(number, strategy, size=size, repeat=repeat, judged=True, scores=scores, raced_with=raced))
        results = replace(results, rows=(*results.rows, *new))
    return results


def places(results, size=50):
    return {(one.strategy, one.repeat) for one in results.rows if one.judged and one.size == size}


@pytest.mark.parametrize("repeats", [1, 2, 5, REPEATS])
def test_confirm_trials_are_the_same_in_any_order(spec, repeats):
    found = []
    for seed, most in ((0, 1), (1, 3), (2, 100)):
        results = run(results_of(spec, repeats=repeats), order=np.random.default_rng(seed), most=most)
        assert results.is_confirmed(50)
        found.append(places(results))
    assert found[0] == found[1] == found[2]
    assert {one for one, _ in found[0]} == {*EVERY}
    assert len(found[0]) == sum(min(kept(repeat, searched=True), 5) for repeat in range(1, repeats + 1))


def test_candidates_are_known_once_the_size_is_explored(spec):
    running = [*ROWS[:-1], replace(ROWS[-1], state="RUNNING")]
    for rows in (ROWS[:-1], running):
        assert results_of(spec, rows).candidates(50) == []
        assert not results_of(spec, rows).is_confirmed(50)
        assert not results_of(spec, rows).is_finished([50])
    assert results_of(spec).candidates(50) == EVERY


def test_candidates_are_complete_trials(spec):
    rows = [replace(one, state={2: "FAIL", 3: "PRUNED"}.get(one.number, one.state)) for one in ROWS]
    assert results_of(spec, rows).candidates(50) == [PROBE, FULL, OTHER_PROBE]
    failed = [replace(one, state="FAIL") for one in ROWS]
    assert results_of(spec, failed).is_finished([50]), "there is nothing to confirm"


def test_candidates_are_known_once_their_companions_are(spec):
    """Sizes race together: with what one finds the other is tried, too."""
    half = [replace(one, size=80) for one in ROWS[:2]]
    assert results_of(spec, [*ROWS, *half]).candidates(50) == []
    assert results_of(spec, [*ROWS, *half], together=frozenset({50})).candidates(50) == EVERY
    new = FreezingStrategy(freeze_depth=1)
    whole = [*half, *(row(number, new, 0.01, size=80) for number in (2, 3, 4))]
    assert new in results_of(spec, [*ROWS, *whole]).candidates(50)
    assert results_of(spec, [*ROWS, *whole]).candidates(80)[:2] == [PROBE, FULL]


def test_size_that_is_added_changes_no_finished_race(spec):
    """A judged trial stores the sizes that its race was decided with."""
    done = run(results_of(spec), raced=(50,))
    more = [replace(one, size=80, value=1 / (1 + one.value)) for one in ROWS]
    grown = replace(done, rows=(*done.rows, *more))
    assert grown.is_confirmed(50)
    assert grown.needed_confirm_trials(50) == done.needed_confirm_trials(50)
    assert run(grown, (80,)).is_finished([50, 80])


def test_race_reads_labels_that_were_not_drawn(spec):
    """Whatever the test examples say, validation decides who goes on."""
    results = results_of(spec, [*ROWS, row(5, FreezingStrategy(freeze_depth=2), 0.95)], trials=6, repeats=5)
    best = []
    for sign in (1, -1):
        found = results
        while asked := missing(found, [50]):
            new = [
                row(
                    len(found.rows) + place, one, repeat=repeat, judged=True,
                    scores={"val_loss": score(one, repeat), "test_loss": 1 + sign * score(one, repeat)},
                )
                for place, (_, one, repeat) in enumerate(sorted(asked, key=repr))
            ]  # fmt: skip
            found = replace(found, rows=(*found.rows, *new))
        best.append({one for one, repeat in places(found) if repeat == 5})
    assert best[0] == best[1]
    assert FULL in best[0]
    assert len(best[0]) < 6


def test_confirmed_leaves_out_former_candidates(spec):
    """More exploring may find candidates that take the place of others."""
    few = [row(number, FreezingStrategy(freeze_depth=0, head_lr=1e-3 + number / 1e5), 1.0) for number in range(12)]
    results = run(results_of(spec, few, trials=12))
    better = [row(100 + number, FreezingStrategy(freeze_depth=0, head_lr=0.5 + number), 0.1) for number in range(3)]
    grown = replace(results, rows=(*results.rows, *better))
    assert {one.strategy for one in better} <= {*grown.candidates(50)}
    former = {*results.candidates(50)} - {*grown.candidates(50)}
    assert former
    assert not former & {one.strategy for one in grown.confirmed(50)}
    assert not grown.is_confirmed(50)
    assert run(grown).is_confirmed(50)


def test_most_confirms_is_what_is_run(spec):
    results = results_of(spec)
    known = sum(min(kept(repeat, searched=True), 5) for repeat in range(1, REPEATS + 1))
    assert replace(results, rows=()).most_confirms(50) == results.most_confirms(50) == known
    half = run(results, steps=7)
    assert half.most_confirms(50) == known
    assert len(run(half).confirmed(50)) == run(half).most_confirms(50) == known


def test_study_without_repeats_needs_no_confirm_trials(spec):
    results = results_of(spec, repeats=0)
    assert results.needed_confirm_trials(50) == set()
    assert results.is_finished([50])
    assert not results.is_confirmed(50)


# -- sizes that leave too few labels to search by ------------------------------------------------------------


def test_unexplored_size_runs_portfolio_and_what_others_found(spec):
    facts = {"unexplored": frozenset({80}), "baselines": BASELINES, "portfolio": PORTFOLIO}
    results = results_of(spec, together=frozenset({50, 80}), **facts)
    assert results.candidates(80) == [PROBE, FULL, OTHER_PROBE, THIRD_FULL, OTHER_FULL]
    assert results.is_explored(80)
    assert not results.is_finished([50, 80])
    done = run(results, (50, 80))
    assert done.is_finished([50, 80])
    assert {one.size for one in done.explored(50)} == {50}
    assert done.explored(80) == []


def test_unexplored_size_waits_for_its_companions(spec):
    facts = {"unexplored": frozenset({80}), "baselines": BASELINES, "together": frozenset({50, 80})}
    results = results_of(spec, ROWS[:-1], **facts)
    assert results.candidates(80) == []
    assert not results.is_confirmed(80)


def test_unexplored_sizes_alone_run_baselines_and_portfolio(spec):
    sizes = frozenset({40, 80})
    results = results_of(
        spec, (), unexplored=sizes, baselines=BASELINES, portfolio=PORTFOLIO, all=80, together=sizes
    )  # fmt: skip
    assert results.candidates(40) == results.candidates(80) == [PROBE, FULL, OTHER_PROBE]
    done = run(results, (40, 80))
    assert done.is_finished([40, "all"])
    assert done.sizes == [40, 80]
    counts = [sum(repeat == one for _, repeat in places(done, 40)) for one in range(1, REPEATS + 1)]
    assert counts == [min(kept(one, searched=False), 3) for one in range(1, REPEATS + 1)]
    assert len(KEPT_UNEXPLORED) > 1


def test_race_of_an_unexplored_size_reads_test_scores(spec):
    """Too few labels are left to validate there."""
    facts = {"unexplored": frozenset({50}), "baselines": tuple(EVERY), "together": frozenset({50})}
    results = results_of(spec, (), **facts)
    judged = [
        row(number, one, repeat=repeat, judged=True, scores={"test_loss": score(one, repeat), "val_loss": 0.0})
        for number, (one, repeat) in enumerate((one, repeat) for one in EVERY for repeat in range(1, 6))
    ]
    found = replace(results, rows=tuple(judged))
    assert {one for one, repeat in found.needed_confirm_trials(50) if repeat == 6} == {
        *sorted(EVERY, key=lambda one: score(one, 1))[:4]
    }


def test_size_of_all_is_known_once_the_data_were_loaded(spec):
    assert results_of(spec, all=96).size("all") == 96
    assert results_of(spec).size("all") == 0
