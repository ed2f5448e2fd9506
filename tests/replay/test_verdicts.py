"""Verdicts against a known truth: a slice of `python -m tests.replay verdicts`."""

import numpy as np
import pytest

from tests.replay.table import Table
from tests.replay.verdicts import WORLDS, compare, confirm, longest, replayed, simulate, summary


def studies_of(world, truth, *, repeats, studies, seed=0):
    rng, length = np.random.default_rng(seed), longest(len(truth), repeats)
    return compare(lambda: simulate(rng, WORLDS[world], truth, repeats=length), repeats=repeats, studies=studies)


@pytest.mark.parametrize("world", WORLDS)
def test_equal_strategies_have_hardly_ever_a_winner(world):
    """Looking more often finds hardly more of them."""
    found = studies_of(world, [WORLDS[world].accuracy] * 2, repeats=10, studies=300)
    # The rate is 2 to 4 %; of 300 studies its standard error is 1.
    assert found["fixed"]["winner %"] <= 6
    assert found["adaptive"]["winner %"] <= min(6, found["fixed"]["winner %"] + 2)


@pytest.mark.parametrize("world", WORLDS)
def test_leader_of_equal_strategies_scores_like_the_truth(world):
    found = studies_of(world, [WORLDS[world].accuracy] * 6, repeats=5, studies=150)["fixed"]
    assert found["winner %"] <= 1
    assert abs(found["leader +"]) <= 0.5
    assert 85 <= found["covered %"] <= 97


def test_adaptive_repeats_find_more_winners_for_less():
    best = WORLDS["many labels"].accuracy
    truth = [best - gap for gap in (0.1, 0.07, 0.05, 0.04, 0.015, 0.0)]
    found = studies_of("many labels", truth, repeats=10, studies=80)
    assert found["adaptive"]["winner %"] >= found["fixed"]["winner %"] + 5
    assert found["adaptive"]["trials"] <= 0.95 * found["fixed"]["trials"]
    assert found["adaptive"]["wrong %"] <= 1
    assert found["adaptive"]["lost %"] <= 2
    assert 85 <= found["adaptive"]["covered %"] <= 97


def test_simulation_has_the_given_truth_and_spreads():
    world = WORLDS["many labels"]
    truth = [world.accuracy, world.accuracy]
    rng = np.random.default_rng(0)
    scores = np.array([simulate(rng, world, truth, repeats=2).outcomes.mean(axis=-1) for _ in range(2000)])
    assert scores.mean(axis=(0, 1)) == pytest.approx(truth, abs=0.002)
    # A run's noise of each example is part of its own spread: as little as that of independent examples.
    noise = np.sqrt(world.accuracy * (1 - world.accuracy) / world.examples)
    twice = (scores[:, 0] - scores[:, 1]) / np.sqrt(2)
    own = (twice[:, 0] - twice[:, 1]).std() / np.sqrt(2)
    assert 0.9 * world.own <= own <= 1.1 * np.hypot(world.own, noise)
    assert 0.9 * np.hypot(world.repeat, own) <= twice[:, 0].std() <= 1.1 * np.hypot(world.repeat, own)


@pytest.mark.parametrize("task", ["digits", "vowels", "emoji", pytest.param("fashion", marks=pytest.mark.soak)])
def test_scores_of_replayed_searches_are_true(task):
    table = Table.load(task)
    rng, judged = np.random.default_rng(0), []
    for study in range(100):
        drawn = replayed(rng, table, size=study % len(table.sizes), repeats=longest(7, 10))
        judged.append(confirm(drawn, repeats=10, adaptive=True))
    found = summary(judged)
    assert found["wrong %"] <= 5
    error = 100 * np.std([one.error[one.leader] for one in judged]) / len(judged) ** 0.5
    assert error <= 0.25
    assert abs(found["recommended +"]) <= 0.5 + 2 * error
    assert abs(found["leader +"]) <= 0.5 + 2 * error
