"""The head-to-head re-runs: which nominee becomes its family's candidate."""

import pytest

from search.verdict.confirm import HEAD_TO_HEAD_REPEATS, head_to_head_winner

BEST, BASELINE = 7, 3
RUNS = [(number, repeat) for number in (BEST, BASELINE) for repeat in range(1, HEAD_TO_HEAD_REPEATS + 1)]


@pytest.mark.parametrize(
    ("best", "baseline", "through"), [(1.0, 2.0, BEST), (2.0, 1.0, BASELINE), (1.0, 1.0, BASELINE)]
)
def test_head_to_head_takes_the_better_and_on_a_tie_the_baseline(best, baseline, through):
    values = {place: best if place[0] == BEST else baseline for place in RUNS} | {
        (BEST, HEAD_TO_HEAD_REPEATS + 1): -100.0
    }
    assert head_to_head_winner(values, [BEST, BASELINE], repeats=10) == through


@pytest.mark.parametrize("missing", RUNS)
def test_head_to_head_is_open_until_all_runs_have_ended(missing):
    values = {place: 1.0 for place in RUNS if place != missing}
    assert head_to_head_winner(values, [BEST, BASELINE], repeats=10) is None
    assert head_to_head_winner(values, [BEST], repeats=10) == BEST
    assert (
        head_to_head_winner(values | {missing: float("inf")}, [BEST, BASELINE], repeats=10)
        == ({BEST, BASELINE} - {missing[0]}).pop()
    )


def test_head_to_head_takes_the_repeats_there_are():
    assert head_to_head_winner({(BEST, 1): 1.0, (BASELINE, 1): 0.5}, [BEST, BASELINE], repeats=1) == BASELINE
    assert head_to_head_winner({}, [BEST, BASELINE], repeats=0) == BEST
