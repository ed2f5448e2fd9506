"""A replayed search is Optuna's, on the table's curves."""

from dataclasses import replace

import numpy as np
import optuna
import pytest

from search.pruning import PhasePruner
from tests.replay.samplers import SHARES, regrets
from tests.replay.search import Replay
from tests.replay.table import Table


@pytest.fixture(scope="module")
def replay() -> Replay:
    return Replay(Table.load("digits"))


def searched(replay: Replay, **options):
    options = {"sampler": optuna.samplers.RandomSampler(seed=3), "size": 2, "repeat": 0, "trials": 30} | options
    return replay.search(**options)


def test_search_starts_with_the_baselines_of_the_table(replay):
    found = searched(replay, trials=len(replay.baselines))
    assert [replay.strategies[one.strategy] for one in found] == replay.baselines
    for one in found:
        assert one.value == replay.table.values[one.strategy, 2, 0, -1]
        assert not one.pruned


def test_sampler_reaches_every_family(replay):
    families = {replay.families[one.strategy] for one in searched(replay, first=(), trials=300)}
    assert len(families) == 5, "all but from scratch, which is for baselines"


def test_same_seed_gives_the_same_search(replay):
    assert searched(replay) == searched(replay)
    assert searched(replay) != searched(replay, sampler=optuna.samplers.RandomSampler(seed=4))


def test_search_ends_with_its_seconds(replay):
    budget = 0.1 * replay.slice_cost(2)
    spent = sum(one.seconds for one in searched(replay, trials=1000, seconds=budget))
    assert 0.5 * budget < spent <= budget


def test_pruned_trial_costs_the_epochs_that_it_ran(replay):
    pruner = PhasePruner(optuna.pruners.MedianPruner(n_startup_trials=5), num_groups=4, epochs=20)
    pruned = [one for one in searched(replay, pruner=pruner, trials=60) if one.pruned]
    assert pruned
    for one in pruned:
        unfrozen = replay.strategies[one.strategy].schedule(4, 20).last_unfreezing
        assert unfrozen + pruner.grace < one.epochs < 20
        assert one.seconds == pytest.approx(replay.seconds[one.strategy, 2, one.epochs - 1])


def test_trying_everything_finds_the_best(replay):
    everything = searched(replay, first=replay.strategies[: replay.searched], trials=replay.searched)
    found = regrets(replay, 2, [replace(one, seconds=0.0) for one in everything])
    assert found.shape == (2, len(SHARES))
    assert np.allclose(found[1], 0)
    assert (found[0] >= 0).all()
