"""The replay table: its content, and that the product's training still gives it."""

from dataclasses import replace

import numpy as np
import pytest

from strategies import Family, FreezingStrategy
from tests.replay import fill
from tests.replay.fill import blocks, train_cell
from tests.replay.grid import TASKS, Grid, spec_of
from tests.replay.table import TABLES, Cell, Table

GROUPS = {"digits": 4, "fashion": 4, "vowels": 3, "mobilenet": 19}
FILLED = [task for task in TASKS if (TABLES / f"{task}.npz").is_file()]


@pytest.mark.parametrize("task", TASKS)
def test_grid_has_every_family_and_each_strategy_once(task):
    grid = Grid.of(task, GROUPS[task])
    strategies = grid.strategies()
    assert len(set(strategies)) == len(strategies)
    assert all(one == one.canonical(GROUPS[task], grid.epochs) for one in strategies)
    families = {one.family(GROUPS[task]) for one in strategies}
    missing = set(Family) - families
    assert missing <= ({Family.GRADUAL_UNFREEZING} if task == "mobilenet" else set())
    assert grid.epochs == spec_of(task).train.epochs


@pytest.mark.parametrize("task", TASKS)
def test_grid_strategy_is_its_own_nearest(task):
    grid = Grid.of(task, GROUPS[task])
    inside = [one for one in grid.strategies() if one not in grid.extras]
    assert [grid.nearest(one) for one in inside] == inside


@pytest.mark.parametrize("task", TASKS)
def test_any_strategy_has_a_nearest_in_the_grid(task):
    grid, dice = Grid.of(task, GROUPS[task]), np.random.default_rng(0)
    known = set(grid.strategies())
    for _ in range(300):
        strategy = FreezingStrategy(
            freeze_depth=int(dice.integers(GROUPS[task] + 1)),
            unfreeze_epoch=int(dice.integers(grid.epochs)),
            epochs_per_group=int(dice.integers(3)),
            backbone_lr_ratio=float(10 ** dice.uniform(-1.5, 0)),
            head_lr=float(10 ** dice.uniform(-3.5, -1.5)),
            pretrained=bool(dice.random() < 0.9),
        )
        assert grid.nearest(strategy) in known


def test_blocks_come_repeat_by_repeat():
    order = list(blocks(["digits", "mobilenet"], 20, 5))
    assert len(order) == len(set(order)) == 20 * 5 + 5 * 3
    assert [repeat for task, repeat, _ in order if task == "digits"] == sorted(list(range(20)) * 5)
    halfway = order[: len(order) // 2]
    assert {repeat for task, repeat, _ in halfway if task == "mobilenet"} == {0, 1, 2}


def made(repeats: int, *, sizes: tuple[int, ...] = (50, 100)) -> Table:
    dice = np.random.default_rng(repeats)
    shape = (len(Grid.of("digits", 4).strategies()), len(sizes), repeats, 20)  # ..., epochs
    return Table(
        task="digits",
        num_groups=4,
        sizes=sizes,
        repeats=repeats,
        val_loss=dice.uniform(0.01, 2, shape).astype(np.float32),
        val_accuracy=dice.uniform(0, 1, shape).astype(np.float32),
        test_accuracy=dice.uniform(0, 1, shape).astype(np.float32),
        seconds=dice.uniform(0, 1, shape).astype(np.float32),
        outcome=dice.uniform(0, 1, (*shape[:3], 501)) < 0.8,
        weights={"0.weight": dice.uniform(-1, 1, (3, 2)).astype(np.float32)},
    )


def test_saved_table_is_read_again(tmp_path):
    table = made(3)
    table.val_loss[0, 0, 0, 5:] = np.inf  # a run that diverged
    table.save(tmp_path)
    again = Table.load("digits", tmp_path)
    assert np.array_equal(again.outcome, table.outcome)
    assert np.array_equal(again.weights["0.weight"], table.weights["0.weight"])
    assert (again.num_groups, again.sizes, again.repeats) == (4, (50, 100), 3)
    np.testing.assert_allclose(again.val_loss, table.val_loss, rtol=1e-3)
    np.testing.assert_allclose(again.test_accuracy, table.test_accuracy, atol=1e-4)
    assert again.best_epoch[0, 0, 0] < 5


def test_packed_repeats_stay_to_the_bit_as_more_are_added(tmp_path, monkeypatch):
    (tmp_path / "cells").mkdir()
    sizes = tuple(spec_of("digits").task.sizes)
    made(3, sizes=sizes).save(tmp_path)
    before, later = Table.load("digits", tmp_path), made(2, sizes=sizes)
    monkeypatch.setattr(fill, "stored", lambda task: Table.load(task, tmp_path))
    for repeat in (3, 4):
        for at, size in enumerate(sizes[: 5 if repeat == 3 else 4]):  # of the last repeat a size is missing
            cells = {name: getattr(later, name)[:, at, repeat - 3] for name in Cell.__dataclass_fields__}
            np.savez(fill.file_of(tmp_path, ("digits", repeat, size)), num_groups=4, **cells)
    fill.pack(tmp_path, "digits").save(tmp_path)
    after = Table.load("digits", tmp_path)
    assert (before.repeats, after.repeats) == (3, 4)
    for name in Cell.__dataclass_fields__:
        assert np.array_equal(getattr(after, name)[:, :, :3], getattr(before, name))
    assert np.array_equal(after.outcome[:, :, 3], later.outcome[:, :, 0])
    assert np.array_equal(after.weights["0.weight"], before.weights["0.weight"])
    assert fill.pack(tmp_path, "digits").repeats == 4, "no repeat is added twice"


@pytest.mark.parametrize("task", FILLED)
def test_outcomes_are_those_of_the_best_epochs(task):
    table = Table.load(task)
    assert table.val_loss.shape[:2] == (len(table.strategies), len(spec_of(task).task.sizes))
    # Halves may make two epochs' losses equal that were not; then another epoch's accuracy is read.
    apart = np.abs(table.outcome.mean(axis=-1) - table.score)
    assert np.mean(apart > 1e-3) < 0.05


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.skipif("digits" not in FILLED, reason="the table of the digits is not filled")
def test_cells_trained_again_are_the_same():
    import torch

    from search.task.task import Task

    table = Table.load("digits")
    task = Task.load(spec_of("digits")).with_weights({k: torch.from_numpy(v) for k, v in table.weights.items()})
    for place, size, repeat in ((0, 0, 0), (60, 2, 0), (131, 3, 0)):
        cell = train_cell(task, table.strategies[place], size=table.sizes[size], repeat=repeat)
        stored = table.val_loss[place, size, repeat]
        # Another machine's kernels round otherwise.
        assert np.median(np.abs(cell.val_loss / stored - 1)) < 0.05
        assert abs(cell.outcome.mean() - table.score[place, size, repeat]) < 0.03


def test_unknown_rate_is_moved_by_its_ratio():
    grid = Grid.of("digits", 4)
    strategy = replace(FreezingStrategy.full_fine_tuning(head_lr=2.1e-3), backbone_lr_ratio=0.4)
    moved = grid.nearest(strategy)
    assert (moved.head_lr, moved.backbone_lr_ratio) == (4e-3, 1.0)
