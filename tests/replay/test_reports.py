"""Rules of the reports: chance is not taken for merit, and rivals have equal seconds."""

from dataclasses import fields, replace
from importlib import import_module

import numpy as np
import optuna
import pytest

from strategies import Family
from tests.replay.__main__ import REPORTS
from tests.replay.pruners import Tally
from tests.replay.search import Replay
from tests.replay.stops import gap, judged, rules
from tests.replay.summary import best, difference
from tests.replay.table import Cell, Table


@pytest.fixture(scope="module")
def table() -> Table:
    return Table.load("digits")


def noise(table: Table, *, repeats: int = 20) -> Table:
    """Return the same table with scores that are chance alone, 0.5 on average."""
    shape = (*table.test_accuracy.shape[:2], repeats, table.test_accuracy.shape[-1])
    scores = np.random.default_rng(0).normal(0.5, 0.1, shape).astype(np.float32)
    loss = np.broadcast_to(table.val_loss[:, :, :1], shape)
    return replace(table, repeats=repeats, test_accuracy=scores, val_accuracy=scores, val_loss=loss)


def searched(replay: Replay, size: int):
    return replay.search(size=size, repeat=0, sampler=optuna.samplers.RandomSampler(seed=1), trials=40)


def test_best_of_equal_strategies_scores_like_the_rest(table):
    chance = noise(table)
    found = best(chance, lambda strategy, family: True)
    assert found.shape == (len(table.sizes), 20)
    assert abs(found.mean() - 0.5) < 3 * 0.1 / np.sqrt(found.size)
    assert chance.score.mean(axis=2).max(axis=0).mean() > 0.53, "the highest of many means is too high"


def test_better_strategy_is_found(table):
    better = np.array([one.freeze_depth == 2 for one in table.strategies], dtype=np.float32)
    chance = noise(table)
    shifted = replace(chance, test_accuracy=chance.test_accuracy + 0.2 * better[:, None, None, None])
    everyone = best(shifted, lambda strategy, family: True)
    probing = best(shifted, lambda strategy, family: family == Family.LINEAR_PROBING)
    gap, error = difference(everyone[0], probing[0])
    assert abs(gap - 20) < 4 * error


def test_tally_counts_losses_and_costs(table):
    replay = Replay(table)
    found = searched(replay, 1)
    nothing, best_lost = Tally(), Tally()
    nothing.add(replay, 1, found)
    assert (nothing.false_prunes, nothing.survivor_regret, nothing.epochs) == (0.0, [0.0], [1.0])
    truth = {one.strategy: float(replay.truth[one.strategy, 1]) for one in found}
    first, second, *_ = sorted(truth, key=lambda place: -truth[place])
    best_lost.add(replay, 1, [replace(one, pruned=one.strategy == first) for one in found])
    assert best_lost.false_prunes == pytest.approx(1 / max(1, round(0.1 * len(truth))))
    assert best_lost.survivor_regret == pytest.approx([truth[first] - truth[second]])


def test_judged_stop_gains_nothing_by_chance(table):
    """Of accuracies that are noise the chosen strategy and stop reach the mean."""
    rule = rules(noise(table, repeats=100))["best of four"]
    found = judged(replace(rule, undrawn=rule.test), [0, 1], halvings=30)
    assert found.shape == (2, 5, 100)
    assert np.allclose(found.mean(axis=(1, 2)), 50, atol=1.5)


def test_judged_stop_is_the_one_that_is_better(table):
    """One rule loses what later epochs lose, the other stops before."""
    worse = np.where(np.arange(20) > 9, 0.3, 0.0).astype(np.float32)
    falling = replace(noise(table), test_accuracy=noise(table).test_accuracy - worse)
    scores = {name: judged(rule, [0], halvings=10)[0] for name, rule in rules(falling).items()}
    mean, error = gap(scores["best of four"], scores["last"])
    assert abs(mean - 30) < 5 + 4 * error
    assert scores["lowest loss"].shape == (5, 20)


@pytest.mark.soak
@pytest.mark.parametrize("name", REPORTS)
def test_report_prints_a_row_for_each_comparison(table, name):
    names = [one.name for one in fields(Cell)] + ["test_accuracy"]
    few = replace(table, sizes=table.sizes[:3], **{one: getattr(table, one)[:, :3] for one in names})
    for printed in (few, Table.load("emoji")):
        texts = [*import_module(f"tests.replay.{name}").report([printed], studies=1)]
        assert texts
        assert all(isinstance(text, str) or text.row_count > 1 for text in texts)
