"""Candidates that stop early: a slice of `python -m tests.simulation raced`."""

import pytest

from search.verdict.race import kept
from tests.simulation.raced import CLOSED, DESIGNS, studies, summary
from tests.simulation.study import Design


def test_raced_studies_cover_closed_candidates():
    """Of 60 studies the leader's standard error is 4 points."""
    found = summary(studies(Design(way="given", labels=1000, share=0.1), alike=False, count=60))
    assert found["runs"] == sum(kept(repeat, searched=True) for repeat in range(1, 6))
    assert found["finalists"] == kept(5, searched=True)
    assert found["leader's"] >= 85 - 8
    assert found["finalists'"] >= 85
    assert all(found[f"{name}'s"] >= 85 for name in CLOSED)
    assert found["regret r."] <= 1


@pytest.mark.soak
@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("repeats", [5, 10])
@pytest.mark.parametrize(("way", "labels", "share"), DESIGNS)
def test_raced_studies_hold_in_every_design(way, labels, share, repeats, alike):
    design = Design(way=way, labels=labels, share=share, repeats=repeats)
    found = summary(studies(design, alike=alike, count=300))
    assert found["false %"] <= 5
    assert found["leader's"] >= 85 - 4.1, "twice the standard error of 300 studies"
    assert all(found[f"{name}'s"] >= 82 for name in CLOSED)
