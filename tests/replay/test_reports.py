"""What is printed from the tables holds: luck is not taken for merit, nor foresight for a pruner's."""

from dataclasses import fields, replace
from importlib import import_module

import numpy as np
import optuna
import pytest

from strategies import Family
from tests.replay.__main__ import REPORTS
from tests.replay.picks import RIVALS, confirmed, regret, study, unlucky, within
from tests.replay.pruners import Foresight, Tally
from tests.replay.samplers import SHARES
from tests.replay.search import Replay
from tests.replay.sizes import best_so_far, first_trials, rows
from tests.replay.summary import best, difference
from tests.replay.table import Cell, Table


@pytest.fixture(scope="module")
def table() -> Table:
    return Table.load("digits")


def noise(table: Table, *, repeats: int = 20) -> Table:
    """The same table with scores that are luck alone, 0.5 on average."""
    shape = (*table.test_accuracy.shape[:2], repeats, table.test_accuracy.shape[-1])
    scores = np.random.default_rng(0).normal(0.5, 0.1, shape).astype(np.float32)
    return replace(
        table, repeats=repeats, test_accuracy=scores, val_loss=np.broadcast_to(table.val_loss[:, :, :1], shape)
    )


def test_the_best_of_many_that_are_alike_is_no_better_than_the_rest(table):
    luck = noise(table)
    found = best(luck, lambda strategy, family: True)
    assert found.shape == (len(table.sizes), 20)
    assert abs(found.mean() - 0.5) < 3 * 0.1 / np.sqrt(found.size)
    assert luck.score.mean(axis=2).max(axis=0).mean() > 0.53, "what is best by luck looks better"


def test_what_is_truly_better_is_found(table):
    strategies = table.strategies
    better = np.array([one.freeze_depth == 2 for one in strategies])
    luck = noise(table)
    shifted = replace(luck, test_accuracy=luck.test_accuracy + 0.2 * better[:, None, None, None].astype(np.float32))
    everyone = best(shifted, lambda strategy, family: True)
    probing = best(shifted, lambda strategy, family: family == Family.LINEAR_PROBING)
    gap, error = difference(everyone[0], probing[0])
    assert abs(gap - 20) < 4 * error


def test_foresight_waits_for_the_last_unfreezing_and_prunes_who_would_end_worse_than_most(table):
    replay = Replay(table)
    found = replay.search(
        size=2,
        repeat=0,
        sampler=optuna.samplers.RandomSampler(seed=1),
        pruner=Foresight(replay, size=2, repeat=0),
        trials=60,
    )
    ends = [table.value[one.strategy, 2, 0] for one in found]
    pruned = [number for number, one in enumerate(found) if one.pruned]
    assert len(pruned) > 10
    for number in pruned:
        strategy = replay.strategies[found[number].strategy]
        assert found[number].epochs == strategy.schedule(4, 20).last_unfreezing + 2
        assert ends[number] > np.median(ends[:number])
    assert not {number for number in pruned if number < len(replay.baselines)}


def test_a_tally_counts_what_was_lost_and_what_was_spent(table):
    replay = Replay(table)
    found = replay.search(size=1, repeat=0, sampler=optuna.samplers.RandomSampler(seed=1), trials=40)
    nothing, best_lost = Tally(), Tally()
    nothing.add(replay, 1, found)
    assert (nothing.false_prunes, nothing.survivor_regret, nothing.epochs) == (0.0, [0.0], [1.0])
    truth = {one.strategy: float(replay.truth[one.strategy, 1]) for one in found}
    first, second, *_ = sorted(truth, key=lambda place: -truth[place])
    best_lost.add(replay, 1, [replace(one, pruned=one.strategy == first) for one in found])
    assert best_lost.false_prunes == pytest.approx(1 / max(1, round(0.1 * len(truth))))
    assert best_lost.survivor_regret == pytest.approx([truth[first] - truth[second]])


def test_lessons_follow_the_baselines_and_a_misleading_source_turns_their_order_around(table):
    replay = Replay(table)
    found = replay.search(size=0, repeat=0, sampler=optuna.samplers.RandomSampler(seed=1), trials=60)
    first = first_trials(replay, {table.sizes[0]: rows(replay, 0, found)}, trials=60)
    misled = first_trials(replay, {table.sizes[0]: rows(replay, 0, found, worst=True)}, trials=60)
    count = len(replay.baselines)
    assert first[:count] == misled[:count] == replay.baselines
    value = {one.strategy: one.value for one in found}

    def mean(lessons):
        return np.mean([value[replay.places[one]] for one in lessons])

    assert mean(first[count:]) < mean(misled[count:])
    assert (np.diff(best_so_far(found)) <= 0).all()


def test_without_the_tables_luck_nobody_lacks_anything_where_all_are_alike(table):
    replay = Replay(noise(table))
    strategies = replay.strategies[: replay.searched]
    lacks = [np.mean([how(replay, at, one) for one in strategies for at in range(5)]) for how in (regret, without_luck)]
    assert lacks[0] > 4, "the best of many means looks better than they are"
    assert abs(lacks[1]) < 1.5


def without_luck(replay, at, strategy):
    return unlucky(replay, at, strategy, repeats=range(20))


def test_a_study_is_told_at_each_budget_and_its_rivals_had_the_seconds_that_it_took(table):
    replay = Replay(table)
    found = study(replay, 1, np.random.default_rng(3))
    assert found.regrets.shape == (len(SHARES), 3)
    assert (found.regrets >= 0).all()
    assert (np.diff(found.costs) > 0).all()
    assert (found.costs > SHARES).all(), "confirming has its price"
    assert found.costs[-1] < SHARES[-1] + 1
    assert found.rivals.keys() == set(RIVALS)
    assert all(lacks.shape == (len(SHARES),) and (lacks >= 0).all() for lacks in found.rivals.values())
    tried = replay.search(size=1, repeat=0, sampler=optuna.samplers.RandomSampler(seed=1), trials=40)
    spent = np.cumsum([one.seconds for one in tried])
    assert [len(within(tried, seconds)) for seconds in (0.0, spent[6], spent[-1] + 1)] == [1, 7, 40]


def test_a_search_is_confirmed_as_the_product_does(table):
    replay = Replay(table)
    tried = replay.search(size=2, repeat=0, sampler=optuna.samplers.RandomSampler(seed=1), trials=40)
    results = confirmed(replay, 2, tried, [1, 2, 3, 4, 5])
    assert results.is_finished([table.sizes[2]])
    for row in results.confirmed(table.sizes[2]):
        assert row.value == table.value[replay.places[row.strategy], 2, row.repeat]
        assert (row.example_scores == table.outcome[replay.places[row.strategy], 2, row.repeat]).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["summary", "pruners", "sizes", "picks"])
def test_a_report_has_a_row_for_each_thing_it_compares(table, name):
    few = replace(table, sizes=table.sizes[:2], **{one.name: getattr(table, one.name)[:, :2] for one in fields(Cell)})
    texts = list(import_module(f"tests.replay.{name}").report([few], studies=1))
    assert texts
    assert all(text.row_count > 1 for text in texts)


@pytest.mark.parametrize("name", REPORTS)
def test_each_report_has_something_to_say_of_the_smallest_table(name):
    few = Table.load("mobilenet")
    assert [*import_module(f"tests.replay.{name}").report([few], studies=1)]
