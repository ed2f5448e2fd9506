"""False winners and power: a slice of `python -m tests.simulation power`."""

import pytest

from tests.simulation.power import ALIKE, REPEATS, winners


def test_winners_are_found_more_often_than_before():
    """A true lead of 3 points over five others after five repeats: more than half of the studies."""
    now, before = winners("many labels", "3 points", repeats=5, count=120)
    assert now >= 50
    assert now >= before + 8


def test_winners_among_six_alike_are_rare():
    now, _ = winners("few labels", "6 alike", repeats=5, count=60)
    assert now <= 2


@pytest.mark.soak
@pytest.mark.parametrize("case", ALIKE)
@pytest.mark.parametrize("repeats", REPEATS)
@pytest.mark.parametrize("world", ["few labels", "many labels"])
def test_false_winners_are_at_most_one_in_twenty(world, case, repeats):
    now, _ = winners(world, case, repeats=repeats, count=1500)
    assert now <= 5 + 1.1, "twice the standard error of 1500 studies is 1.1"
