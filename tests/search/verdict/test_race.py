"""The confirm race: a pure function of the scores that are there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.verdict.race import LEAST_REPEATS, race, tail

FAR = {0: 0.90, 1: 0.70, 2: 0.89, 3: 0.60}
"""Two that are near each other, two that are far behind."""


def scores_of(means, *, spread=0.01, seed=0, repeats=200):
    """Return scores of every candidate on every repeat, as if all were run."""
    rng = np.random.default_rng(seed)
    return {
        (number, repeat): mean + spread * rng.normal() for number, mean in means.items() for repeat in range(1, repeats)
    }


def ask(done, candidates, *, repeats=10, margin=0.01, relative=False):
    return race(done, list(candidates), repeats=repeats, margin=margin, relative=relative)


def to_the_end(scores, candidates, *, workers=1, order=None, done=None, **options):
    """Run the trials of the race, `workers` at a time, until none is left; return their scores."""
    done = dict(done or {})
    while missing := sorted(ask(done, candidates, **options) - done.keys(), key=order or (lambda place: place[::-1])):
        done |= {place: scores[place] for place in missing[:workers]}
    return done


def repeats_of(done, number):
    return sorted(repeat for other, repeat in done if other == number)


worlds = st.fixed_dictionaries(
    {
        "means": st.lists(st.sampled_from([0.6, 0.85, 0.88, 0.9]), min_size=1, max_size=6).map(
            lambda m: dict(enumerate(m))
        ),
        "spread": st.sampled_from([0.0, 0.003, 0.03]),
        "seed": st.integers(0, 1000),
    }
)


@settings(max_examples=60, deadline=None)
@given(worlds, st.integers(1, 14), st.integers(1, 5), st.randoms(use_true_random=False))
def test_race_is_the_same_for_any_workers_and_order(world, repeats, workers, random):
    scores, candidates = scores_of(**world), list(world["means"])
    one = to_the_end(scores, candidates, repeats=repeats)
    many = to_the_end(scores, candidates, repeats=repeats, workers=workers, order=lambda place: random.random())
    assert one == many
    assert len(one) <= len(candidates) * repeats
    for number in candidates:
        run = repeats_of(one, number)
        assert run == list(range(1, len(run) + 1)), "repeats are run in their order, none left out"
        assert len(run) >= min(repeats, LEAST_REPEATS)


@settings(max_examples=40, deadline=None)
@given(worlds, st.integers(1, 8), st.integers(0, 6))
def test_race_grown_in_steps_equals_the_race_at_once(world, repeats, more):
    scores, candidates = scores_of(**world), list(world["means"])
    before = to_the_end(scores, candidates, repeats=repeats)
    grown = to_the_end(scores, candidates, repeats=repeats + more, done=before)
    assert before.items() <= grown.items()
    assert grown == to_the_end(scores, candidates, repeats=repeats + more)


def test_race_gives_repeats_of_closed_candidates_to_open_ones():
    done = to_the_end(scores_of(FAR), FAR)
    runs = {number: len(repeats_of(done, number)) for number in FAR}
    assert max(runs[1], runs[3]) < 10 < min(runs[0], runs[2])
    assert len(done) <= 10 * len(FAR)


def test_race_ends_at_a_clear_lead():
    done = to_the_end(scores_of({0: 0.9, 1: 0.7, 2: 0.5}, spread=0.001), range(3))
    assert len(done) == 3 * LEAST_REPEATS


def test_race_ends_where_candidates_are_surely_alike():
    done = to_the_end(scores_of({0: 0.9, 1: 0.9, 2: 0.5}, spread=0.001), range(3))
    assert len(done) == 3 * LEAST_REPEATS


def test_race_never_closes_within_the_margin():
    done = to_the_end(scores_of({0: 0.9, 1: 0.895, 2: 0.88}, spread=0.0), [0, 1, 2], margin=0.01)
    assert len(done) == 3 * LEAST_REPEATS
    near = to_the_end(scores_of({0: 0.9, 1: 0.893}, spread=0.008), [0, 1], repeats=12)
    assert len(repeats_of(near, 0)) == len(repeats_of(near, 1))


def test_race_with_a_relative_margin_ignores_the_unit():
    # Squared errors, less is better: 2 % behind is within a margin of 5 % at any unit.
    for unit in (1e-6, 1.0, 1e6):
        scores = scores_of({0: -unit, 1: -1.02 * unit, 2: -2 * unit}, spread=0.001 * unit)
        done = to_the_end(scores, range(3), margin=0.05, relative=True)
        assert len(done) == 3 * LEAST_REPEATS


@pytest.mark.parametrize("repeat", [1, LEAST_REPEATS, LEAST_REPEATS + 1, LEAST_REPEATS + 2])
def test_race_goes_without_a_candidate_that_failed(repeat):
    scores = scores_of({0: 0.9, 1: 0.89, 2: 0.895}, spread=0.01) | {(1, repeat): float("nan")}
    done = to_the_end(scores, range(3))
    assert repeats_of(done, 1)[-1] == max(repeat, LEAST_REPEATS)
    assert len(repeats_of(done, 0)) == len(repeats_of(done, 2)) >= 10


def test_race_ends_where_all_failed():
    scores = dict.fromkeys(scores_of(FAR), float("nan"))
    assert len(to_the_end(scores, FAR)) == LEAST_REPEATS * len(FAR)


def test_race_is_over_where_all_repeats_were_run():
    stored = {place: score for place, score in scores_of(FAR).items() if place[1] <= 10}
    assert ask(stored, FAR) <= stored.keys()


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 30])
def test_tail_is_students(freedom):
    stats = pytest.importorskip("scipy.stats")
    for distance in (-3.0, -0.5, 0.0, 0.1, 1.0, 4.0, 12.0):
        assert tail(distance, 1.0, freedom) == pytest.approx(stats.t.sf(distance, freedom), abs=1e-9)
    assert (tail(1.0, 0.0, freedom), tail(0.0, 0.0, freedom), tail(-1.0, 0.0, freedom)) == (0, 0.5, 1)


@pytest.mark.parametrize("repeats", [0, 4, 5, 6, 20])
def test_race_without_candidates_needs_nothing(repeats):
    assert race({}, [], repeats=repeats, margin=0.01, relative=False) == set()
