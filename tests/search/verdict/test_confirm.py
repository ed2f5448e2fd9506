"""Which confirm trials are wanted: a pure function of the scores that are there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.verdict.confirm import LEAST_CHAINS, PLAY_OFF, goes_on, tail, wanted

FAR = {0: 0.90, 1: 0.70, 2: 0.89, 3: 0.60}
"""Two that are near each other, two that are far behind."""


def scores_of(means, *, spread=0.01, seed=0, chains=200):
    """Scores of every finalist on every chain, as if all were run."""
    rng = np.random.default_rng(seed)
    return {
        (number, chain): mean + spread * rng.normal() for number, mean in means.items() for chain in range(1, chains)
    }


def ask(done, finalists, *, chains=10, margin=0.01, relative=False):
    return wanted(done, list(finalists), chains=chains, margin=margin, relative=relative)


def to_the_end(scores, finalists, *, workers=1, order=None, done=None, **options):
    """Run what is wanted, `workers` trials at a time, until nothing is left; what was run."""
    done = dict(done or {})
    while missing := sorted(ask(done, finalists, **options) - done.keys(), key=order or (lambda place: place[::-1])):
        done |= {place: scores[place] for place in missing[:workers]}
    return done


def chains_of(done, number):
    return sorted(chain for other, chain in done if other == number)


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
def test_any_number_of_workers_in_any_order_comes_to_the_same_trials_within_the_budget(world, chains, workers, random):
    scores, finalists = scores_of(**world), list(world["means"])
    one = to_the_end(scores, finalists, chains=chains)
    many = to_the_end(scores, finalists, chains=chains, workers=workers, order=lambda place: random.random())
    assert one == many
    assert len(one) <= len(finalists) * chains
    for number in finalists:
        run = chains_of(one, number)
        assert run == list(range(1, len(run) + 1)), "chains are run in their order, none left out"
        assert len(run) >= min(chains, LEAST_CHAINS)


@settings(max_examples=40, deadline=None)
@given(worlds, st.integers(1, 8), st.integers(0, 6))
def test_a_study_whose_chains_grow_comes_to_what_it_had_come_to_at_once(world, chains, more):
    scores, finalists = scores_of(**world), list(world["means"])
    before = to_the_end(scores, finalists, chains=chains)
    grown = to_the_end(scores, finalists, chains=chains + more, done=before)
    assert before.items() <= grown.items()
    assert grown == to_the_end(scores, finalists, chains=chains + more)


@pytest.mark.parametrize("chains", range(LEAST_CHAINS + 1))
def test_up_to_the_least_chains_every_finalist_runs_all(chains):
    done = to_the_end(scores_of(FAR), FAR, chains=chains)
    assert set(done) == {(number, chain) for number in FAR for chain in range(1, chains + 1)}


def test_who_is_far_behind_is_closed_and_the_near_ones_get_its_chains():
    done = to_the_end(scores_of(FAR), FAR)
    runs = {number: len(chains_of(done, number)) for number in FAR}
    assert max(runs[1], runs[3]) < 10 < min(runs[0], runs[2])
    assert len(done) <= 10 * len(FAR)


def test_a_clear_lead_ends_it():
    done = to_the_end(scores_of({0: 0.9, 1: 0.7, 2: 0.5}, spread=0.001), range(3))
    assert len(done) == 3 * LEAST_CHAINS


def test_who_is_alike_within_the_margin_for_sure_needs_no_more_chains():
    done = to_the_end(scores_of({0: 0.9, 1: 0.9, 2: 0.5}, spread=0.001), range(3))
    assert len(done) == 3 * LEAST_CHAINS


def test_who_is_behind_by_less_than_the_margin_is_never_closed():
    done = to_the_end(scores_of({0: 0.9, 1: 0.895, 2: 0.88}, spread=0.0), [0, 1, 2], margin=0.01)
    assert len(done) == 3 * LEAST_CHAINS
    near = to_the_end(scores_of({0: 0.9, 1: 0.893}, spread=0.008), [0, 1], chains=12)
    assert len(chains_of(near, 0)) == len(chains_of(near, 1))


def test_a_relative_margin_is_a_share_of_the_leaders_score():
    # Squared errors, less is better: 2 % behind is within a margin of 5 % at any unit.
    for unit in (1e-6, 1.0, 1e6):
        scores = scores_of({0: -unit, 1: -1.02 * unit, 2: -2 * unit}, spread=0.001 * unit)
        done = to_the_end(scores, range(3), margin=0.05, relative=True)
        assert len(done) == 3 * LEAST_CHAINS


@pytest.mark.parametrize("chain", [1, LEAST_CHAINS, LEAST_CHAINS + 1, LEAST_CHAINS + 2])
def test_a_finalist_that_failed_hangs_nothing_and_asks_for_no_more(chain):
    scores = scores_of({0: 0.9, 1: 0.89, 2: 0.895}, spread=0.01) | {(1, chain): float("nan")}
    done = to_the_end(scores, range(3))
    assert chains_of(done, 1)[-1] == max(chain, LEAST_CHAINS)
    assert len(chains_of(done, 0)) == len(chains_of(done, 2)) >= 10


def test_where_all_failed_nothing_more_is_wanted():
    scores = dict.fromkeys(scores_of(FAR), float("nan"))
    assert len(to_the_end(scores, FAR)) == LEAST_CHAINS * len(FAR)


def test_a_study_that_ran_all_chains_before_there_were_rounds_is_done():
    stored = {place: score for place, score in scores_of(FAR).items() if place[1] <= 10}
    assert ask(stored, FAR) <= stored.keys()


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 30])
def test_the_tail_is_students(freedom):
    stats = pytest.importorskip("scipy.stats")
    for distance in (-3.0, -0.5, 0.0, 0.1, 1.0, 4.0, 12.0):
        assert tail(distance, 1.0, freedom) == pytest.approx(stats.t.sf(distance, freedom), abs=1e-9)
    assert (tail(1.0, 0.0, freedom), tail(0.0, 0.0, freedom), tail(-1.0, 0.0, freedom)) == (0, 0.5, 1)


@pytest.mark.parametrize("chains", [0, 4, 5, 6, 20])
def test_without_finalists_nothing_is_wanted(chains):
    assert wanted({}, [], chains=chains, margin=0.01, relative=False) == set()


BEST, ANCHOR = 7, 3
RUNS = [(number, chain) for number in (BEST, ANCHOR) for chain in range(1, PLAY_OFF + 1)]


@pytest.mark.parametrize(("best", "anchor", "through"), [(1.0, 2.0, BEST), (2.0, 1.0, ANCHOR), (1.0, 1.0, ANCHOR)])
def test_of_a_family_goes_on_who_is_better_in_validation_and_of_two_alike_the_anchor(best, anchor, through):
    values = {place: best if place[0] == BEST else anchor for place in RUNS} | {(BEST, PLAY_OFF + 1): -100.0}
    assert goes_on(values, [BEST, ANCHOR], chains=10) == through


@pytest.mark.parametrize("missing", RUNS)
def test_a_play_off_is_open_until_all_its_runs_have_ended(missing):
    values = {place: 1.0 for place in RUNS if place != missing}
    assert goes_on(values, [BEST, ANCHOR], chains=10) is None
    assert goes_on(values, [BEST], chains=10) == BEST
    assert goes_on(values | {missing: float("inf")}, [BEST, ANCHOR], chains=10) == ({BEST, ANCHOR} - {missing[0]}).pop()


def test_a_play_off_is_no_longer_than_the_chains_there_are():
    assert goes_on({(BEST, 1): 1.0, (ANCHOR, 1): 0.5}, [BEST, ANCHOR], chains=1) == ANCHOR
    assert goes_on({}, [BEST, ANCHOR], chains=0) == BEST
