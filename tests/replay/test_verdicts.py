"""Verdicts keep their promises: a slice of `python -m tests.replay verdicts`, where the truth is known."""

import numpy as np
import pytest

from tests.replay.grid import TASKS
from tests.replay.table import TABLES, Table
from tests.replay.verdicts import LEAST_TO_DRAW, WORLDS, compare, confirm, longest, replayed, simulate, summary


def studies_of(world, truth, *, chains, studies, seed=0):
    rng, length = np.random.default_rng(seed), longest(len(truth), chains)
    return compare(lambda: simulate(rng, WORLDS[world], truth, chains=length), chains=chains, studies=studies)


@pytest.mark.parametrize("world", WORLDS)
def test_of_two_that_are_alike_hardly_ever_one_wins_and_more_looks_find_no_more_winners(world):
    found = studies_of(world, [WORLDS[world].accuracy] * 2, chains=10, studies=200)
    assert found["fixed"]["winner %"] <= 5
    assert found["adaptive"]["winner %"] <= 5


@pytest.mark.parametrize("world", ["few labels", "many labels"])
def test_among_six_that_are_alike_nobody_wins_and_the_leaders_score_is_no_higher_than_the_truth(world):
    found = studies_of(world, [WORLDS[world].accuracy] * 6, chains=5, studies=150)["fixed"]
    assert found["winner %"] <= 1
    assert abs(found["leader +"]) <= 0.5
    assert 85 <= found["covered %"] <= 96


def test_chains_that_go_where_they_decide_tell_more_for_less():
    best = WORLDS["many labels"].accuracy
    truth = [best - gap for gap in (0.1, 0.07, 0.05, 0.04, 0.015, 0.0)]
    found = studies_of("many labels", truth, chains=10, studies=80)
    assert found["adaptive"]["winner %"] >= found["fixed"]["winner %"] + 5
    assert found["adaptive"]["trials"] <= 0.95 * found["fixed"]["trials"]
    assert found["adaptive"]["wrong %"] <= 1
    assert found["adaptive"]["lost %"] <= 2
    assert 85 <= found["adaptive"]["covered %"] <= 96


def test_the_model_has_the_truth_and_the_spreads_it_was_given():
    world = WORLDS["few labels"]
    study = simulate(np.random.default_rng(0), world, [0.82, 0.7], chains=3000)
    scores = study.outcomes.mean(axis=-1)
    assert scores.mean(axis=0) == pytest.approx([0.82, 0.7], abs=0.03), "but for how hard its test set came out"
    own = (scores[:, 0] - scores[:, 1]).std() / np.sqrt(2)
    assert own == pytest.approx(world.own, rel=0.3)
    assert scores[:, 0].std() == pytest.approx(np.hypot(world.chain, world.own), rel=0.2)


@pytest.mark.parametrize("task", TASKS)
def test_searches_on_a_table_report_scores_that_are_true(task):
    if not (TABLES / f"{task}.npz").is_file() or (table := Table.load(task)).chains < LEAST_TO_DRAW:
        pytest.skip("no table with enough chains")
    rng, judged = np.random.default_rng(0), []
    for study in range(60):
        drawn = replayed(rng, table, size=study % len(table.sizes), chains=longest(7, 10))
        judged.append(confirm(drawn, chains=10, adaptive=True))
    found = summary(judged)
    assert found["wrong %"] <= 5
    assert abs(found["recommended +"]) <= 0.5
    assert abs(found["leader +"]) <= 0.5
