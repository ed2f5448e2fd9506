"""The budget that fits into some seconds: properties of any work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.verdict.time_plan import Work, fitting, seconds_of

MOST = (20, 9)
LEAST = (6, 5)
SECONDS = st.floats(0.1, 1000.0)


@st.composite
def works(draw):
    """Return work at some sizes, each begun, half done or done."""
    sizes = []
    for _ in range(draw(st.integers(1, 4))):
        begun = draw(st.integers(0, 20))
        fresh = draw(st.lists(st.integers(0, 10), min_size=MOST[1], max_size=MOST[1]))
        sizes.append(
            Work(
                begun=begun,
                ended=draw(st.integers(0, begun)),
                searched=draw(st.booleans()),
                rounds=[draw(st.integers(0, most)) for most in fresh],
                fresh=fresh,
                explore_seconds=draw(SECONDS),
                judge_seconds=draw(SECONDS),
            )
        )
    return sizes


def plan(work, seconds, **options):
    return fitting(work, **{"seconds": seconds, "least": LEAST, "most": MOST, "workers": 2.0, **options})


def needed(budget, work, **options):
    return seconds_of(budget, work, **{"workers": 2.0, **options})


@given(works(), st.floats(0.0, 1e6))
def test_budget_fits_or_is_the_least(work, seconds):
    budget = plan(work, seconds)
    assert budget == LEAST or needed(budget, work) <= seconds
    assert all(low <= one <= high for low, one, high in zip(LEAST, budget, MOST, strict=True))


@given(works(), st.floats(0.0, 1e6))
def test_nothing_larger_fits_beside_the_budget(work, seconds):
    trials, repeats = plan(work, seconds)
    if needed((trials, repeats), work) <= seconds:
        assert trials == MOST[0] or needed((trials + 1, repeats), work) > seconds
        assert repeats == MOST[1] or needed((trials, repeats + 1), work) > seconds


@given(works(), st.floats(0.0, 1e6), st.floats(0.0, 1e6), st.floats(1.0, 64.0), st.floats(1.0, 64.0))
def test_needed_seconds_fall_with_workers_and_progress(work, done, more, few, many):
    one, other = sorted([few, many])
    assert needed(MOST, work, workers=other) <= needed(MOST, work, workers=one) * (1 + 1e-9) + _waits(work)
    assert needed(MOST, work, progress=max(done, more)) <= needed(MOST, work, progress=min(done, more))


def _waits(work):
    """Return the longest that more workers may wait for a last trial each round."""
    return sum(max(one.explore_seconds, one.judge_seconds) for one in work) * (1 + MOST[1])


@given(works())
def test_enough_time_gives_the_whole_budget(work):
    assert plan(work, needed(MOST, work)) == MOST


def test_trials_and_repeats_grow_together():
    """A budget of half the time has about half of either, above the least."""
    work = [Work(rounds=[4] * MOST[1], fresh=[4] * MOST[1], explore_seconds=1.0, judge_seconds=1.0)]
    most, least = (needed(budget, work) for budget in (MOST, LEAST))
    trials, repeats = plan(work, (most + least) / 2)
    assert (trials, repeats) == (13, 7)


def test_seconds_are_those_of_a_schedule():
    """Two workers: six trials of 10 s, then rounds of 3 and of 1, at the end of each of which one waits."""
    work = [Work(begun=2, ended=2, fresh=[3, 1], explore_seconds=10.0, judge_seconds=4.0)]
    assert needed((8, 2), work) == pytest.approx((60 + 12 + 4) / 2 + (10 + 4 + 4) / 2)
    assert needed((8, 2), work, workers=1.0) == 76.0
    assert needed((8, 2), work, progress=20.0) == pytest.approx((60 + 12 + 4 - 20) / 2 + (10 + 4 + 4) / 2)


def test_begun_trials_count_and_unsearched_sizes_explore_none():
    work = [Work(begun=9, ended=4, rounds=[0] * 5, explore_seconds=1.0, judge_seconds=1.0)]
    assert needed((6, 5), work, workers=1.0) == 5.0
    work = [Work(searched=False, rounds=[3] * 5, explore_seconds=1.0, judge_seconds=1.0)]
    assert needed((6, 5), work, workers=1.0) == 15.0


def test_exploring_more_runs_the_race_again():
    work = [Work(begun=9, ended=9, rounds=[0] * 5, fresh=[4] * 5, explore_seconds=1.0, judge_seconds=1.0)]
    assert needed((9, 5), work, workers=1.0) == 0.0
    assert needed((10, 5), work, workers=1.0) == 21.0
