"""Rules of the arena: chance is not taken for merit, and designs cost what they run."""

from dataclasses import replace

import numpy as np
import pytest

from search.verdict.race import kept
from strategies import FreezingStrategy
from tests.replay.arena import DESIGNS, Arena, Outcome, frostline, played, report
from tests.replay.portfolio import chosen, relative
from tests.replay.table import Table


@pytest.fixture(scope="module")
def tables() -> list[Table]:
    return [Table.load(task) for task in ("vowels", "digits", "emoji")]


@pytest.fixture(scope="module")
def arena(tables) -> Arena:
    return Arena(tables[0], tables[1:])


def test_regret_of_equal_strategies_is_zero(tables):
    """Of scores that are noise nobody is better, however the best is chosen."""
    table = tables[0]
    noise = np.random.default_rng(0).normal(0.5, 0.05, table.test_accuracy.shape).astype(np.float32)
    arena = Arena(replace(table, test_accuracy=noise), tables[1:])

    def first(arena, draws, seed):
        return Outcome(chosen=np.zeros(5, dtype=int), runs=np.ones(5), cost=np.ones(5))

    def best_seen(arena, draws, seed):
        seen = arena.table.score[: arena.replay.searched][:, :, list(draws)].mean(axis=2)
        return Outcome(chosen=seen.argmax(axis=0), runs=np.ones(5), cost=np.ones(5))

    for design in (first, best_seen):
        assert abs(played(arena, design, halvings=20).regret.mean()) < 1.0


def test_choosing_by_the_truth_has_no_regret(arena):
    def oracle(arena, draws, seed):
        truth = arena.table.score[: arena.replay.searched].mean(axis=2)
        return Outcome(chosen=truth.argmax(axis=0), runs=np.ones(5), cost=np.ones(5))

    assert played(arena, oracle, halvings=10).regret.mean() < 0.3


def test_study_costs_its_runs(arena):
    """Exploring and racing count, each run by its seconds."""
    found = frostline(arena, [*range(8)], 0, trials=18, repeats=6)
    assert found.runs.tolist() == [18 + sum(kept(repeat, searched=True) for repeat in range(1, 7))] * 5
    assert (found.cost < 1.3 * found.runs).all()
    assert ((found.chosen >= 0) & (found.chosen < arena.replay.searched)).all()


def test_study_draws_are_not_those_of_the_truth(arena):
    """Each design sees half of the draws, and is measured on the others."""
    seen = []

    def spy(arena, draws, seed):
        seen.append(draws)
        return Outcome(chosen=np.zeros(5, dtype=int), runs=np.ones(5), cost=np.ones(5))

    assert played(arena, spy, halvings=4).regret.shape[0] == 5
    assert {len(draws) for draws in seen} == {-(-arena.table.repeats // 2)}
    assert len({tuple(sorted(draws)) for draws in seen}) > 1


def test_portfolio_takes_the_best_first(tables):
    """Alone it is the best single strategy; each further one lowers what is lost."""
    table = tables[0]
    found = chosen([table], count=4)
    truth = table.score.mean(axis=2, dtype=float)[: len(table.strategies) - len(table.grid.extras)]
    places = [
        table.strategies.index(table.grid.nearest(one.strategy(num_groups=table.num_groups, epochs=table.grid.epochs)))
        for one in found
    ]
    assert places[0] == (truth.max(axis=0) - truth).sum(axis=1).argmin()
    lost = [(truth.max(axis=0) - truth[places[:count]].max(axis=0)).sum() for count in range(1, 5)]
    assert lost == sorted(lost, reverse=True)
    assert len(set(found)) == 4


@pytest.mark.parametrize("depth", [0, 2, 3, 4])
def test_relative_strategy_comes_back_for_its_own_network(depth):
    strategy = FreezingStrategy(
        freeze_depth=depth, unfreeze_epoch=5 * (depth < 4), backbone_lr_ratio=1.0 if depth == 4 else 0.1, head_lr=1e-3
    ).canonical(4, 20)
    found = relative(strategy, num_groups=4, epochs=20)
    assert found.strategy(num_groups=4, epochs=20) == strategy
    deep = found.strategy(num_groups=19, epochs=8)
    assert (deep.freeze_depth == 19) == (depth == 4)
    assert (deep.freeze_depth == 18) == (depth == 3), "the last group alone"


@pytest.mark.soak
def test_report_has_a_row_for_each_design(tables):
    for text in report(tables, studies=1, tasks=["vowels", "emoji"]):
        assert text.row_count == len(DESIGNS)
        assert len(text.columns) == 6
