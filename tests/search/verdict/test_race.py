"""The race: a pure function of the scores that are there."""

from collections import Counter
from math import nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.verdict.race import KEPT, KEPT_UNEXPLORED, Field, kept, race

MEANS = {number: 0.9 - 0.01 * number for number in range(14)}
"""Fourteen strategies, the first the best."""


def value(size, number, repeat, *, spread=0.01, seed=0):
    rng = np.random.default_rng([seed, size, number, repeat])
    return MEANS[number] + spread * rng.normal() + 0.1 * np.sin(repeat + size)


def fields_of(sizes=(50, 100), *, done=None, families=3, explored=(), unexplored=(), pooled=None, **world):
    """Return fields whose strategies have explored; done: runs ended so far, by size."""
    return {
        size: Field(
            eligible={number: f"family {number % families}" for number in MEANS},
            scores={(number, 0): value(size, number, 0, **world) for number in MEANS if size not in unexplored}
            | (done or {}).get(size, {}),
            pooled=(pooled or {}).get(size, sizes),
            searched=size not in unexplored,
            explored=size not in explored,
        )
        for size in sizes
    }


def to_the_end(repeats=6, *, workers=100, order=None, done=None, sizes=(50, 100), **options):
    """Run the trials of the race, `workers` at a time, until none is left; return their scores by size."""
    done = {size: dict((done or {}).get(size, {})) for size in sizes}
    world = {name: options[name] for name in ("spread", "seed") if name in options}
    while True:
        courses = race(fields_of(sizes, done=done, **options), repeats=repeats)
        missing = [(size, place) for size, course in courses.items() for place in course.needed - done[size].keys()]
        if not missing:
            assert all(course.decided == repeats for course in courses.values())
            return done
        for size, place in sorted(missing, key=order or repr)[:workers]:
            done[size][place] = value(size, *place, **world)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 7), st.integers(1, 5), st.randoms(use_true_random=False))
def test_race_is_the_same_for_any_workers_and_order(seed, repeats, workers, random):
    one = to_the_end(repeats, seed=seed)
    assert one == to_the_end(repeats, seed=seed, workers=workers, order=lambda place: random.random())


@pytest.mark.parametrize("searched", [True, False])
def test_race_runs_exactly_the_kept_of_each_repeat(searched):
    done = to_the_end(9, unexplored=() if searched else (50, 100))
    for runs in done.values():
        assert Counter(repeat for _, repeat in runs) == {
            repeat: min(kept(repeat, searched=searched), len(MEANS)) for repeat in range(1, 10)
        }
        for number in MEANS:
            own = sorted(repeat for other, repeat in runs if other == number)
            assert own == list(range(1, len(own) + 1)), "repeats are run in their order, none left out"


@pytest.mark.parametrize("repeats", [1, 3, 6])
def test_race_grown_in_steps_equals_the_race_at_once(repeats):
    before = to_the_end(repeats)
    grown = to_the_end(repeats + 3, done=before)
    assert all(before[size].items() <= grown[size].items() for size in before)
    assert grown == to_the_end(repeats + 3)


def test_race_keeps_the_best_and_stops_the_worst():
    found = [to_the_end(6, seed=seed, spread=0.02) for seed in range(20)]
    finalists = Counter(number for done in found for runs in done.values() for number, repeat in runs if repeat == 6)
    assert finalists[0] > 30, "of 40 races"
    assert sum(finalists[number] for number in range(10, 14)) == 0


def test_first_repeat_has_each_familys_best():
    """However bad a family is, what it loses is a part of the answer."""
    for families in (3, 14):
        needed = race(fields_of(families=families, spread=0.0), repeats=1)[50].needed
        assert len(needed) == KEPT[0]
        assert {number % families for number, _ in needed} == set(range(min(families, KEPT[0])))


def test_race_waits_for_all_pooled_sizes():
    """No repeat is decided before all sizes have ended the one before."""
    assert not any(course.needed for course in race(fields_of(explored=(100,)), repeats=5).values())
    first = race(fields_of(), repeats=5)
    ended = {50: dict.fromkeys(first[50].needed, 0.5)}
    assert {course.decided for course in race(fields_of(done=ended), repeats=5).values()} == {1}
    ended[100] = dict.fromkeys(first[100].needed, 0.5)
    assert {course.decided for course in race(fields_of(done=ended), repeats=5).values()} == {2}


def test_size_that_is_added_changes_no_race():
    before = to_the_end(5)
    pooled = {50: (50, 100), 100: (50, 100), 200: (50, 100, 200)}
    after = to_the_end(5, done=before, sizes=(50, 100, 200), pooled=pooled)
    assert {size: after[size] for size in before} == before
    assert max(repeat for _, repeat in after[200]) == 5


def test_strategy_that_fails_runs_no_more():
    first = race(fields_of(), repeats=1)[50].needed
    failed = {50: {place: nan if place[0] == 0 else 0.5 for place in first}}
    failed[100] = dict.fromkeys(race(fields_of(), repeats=1)[100].needed, 0.5)
    courses = race(fields_of(done=failed), repeats=2)
    assert (0, 2) not in courses[50].needed
    assert (0, 2) in courses[100].needed


def test_race_without_entrants_needs_nothing():
    nobody = {50: Field(eligible={}, scores={}, pooled=(50,))}
    assert race(nobody, repeats=3)[50].needed == frozenset()
    assert race({}, repeats=3) == {}


def test_race_where_nothing_is_known_runs_the_first_entrants():
    """Of sizes that nothing has explored the order of those that may run decides."""
    unknown = fields_of((50,), unexplored=(50,), families=1)
    assert race(unknown, repeats=1)[50].needed == {(number, 1) for number in MEANS}
    assert len(MEANS) < KEPT_UNEXPLORED[0]
