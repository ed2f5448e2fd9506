"""The replay table: its content, and that the product's training still gives it."""

from dataclasses import replace

import numpy as np
import pytest

from search.data.texts import texts
from strategies import Family, FreezingStrategy
from tests.replay import fill
from tests.replay.data import MAKERS, copies, prepare
from tests.replay.fill import blocks, train_cell
from tests.replay.grid import TASKS, Grid, spec_of, stops
from tests.replay.table import TABLES, VALIDATED, Cell, Table, accuracy

GROUPS = {
    **dict.fromkeys(("digits", "fashion"), 4),
    "vowels": 3,
    **dict.fromkeys(("emoji", "mobilenet"), 19),
    **dict.fromkeys(("efficientnet", "efficientnet-emoji"), 8),
    **dict.fromkeys(("minilm", "minilm-tweets"), 7),
}
FILLED = [task for task in TASKS if (TABLES / f"{task}.npz").is_file()]


@pytest.mark.parametrize("task", TASKS)
def test_grid_has_every_family_and_each_strategy_once(task):
    grid = Grid.of(task, GROUPS[task])
    strategies = grid.strategies()
    assert len(set(strategies)) == len(strategies)
    assert all(one == one.canonical(GROUPS[task], grid.epochs) for one in strategies)
    families = {one.family(GROUPS[task]) for one in strategies}
    assert families == set(Family)
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


def test_prepare_names_the_missing_archive_of_texts(tmp_path, monkeypatch):
    """Nothing is written."""
    monkeypatch.setenv("FROSTLINE_VADER", str(tmp_path / "nowhere.tar.gz"))
    with pytest.raises(SystemExit, match="FROSTLINE_VADER must name"):
        prepare(tmp_path, tmp_path, [spec_of("minilm")])
    with pytest.raises(SystemExit, match="FROSTLINE_ASSETS must name"):
        prepare(tmp_path, tmp_path, [spec_of("efficientnet-emoji"), spec_of("emoji")])
    assert not [*tmp_path.iterdir()]


def test_texts_are_split_without_loss(film_reviews, tmp_path, monkeypatch):
    """No text is both in the pool and in the test set, and the product reads all."""
    spec = spec_of("minilm")
    MAKERS["films.tsv"](tmp_path / "films.tsv", tmp_path)
    monkeypatch.chdir(tmp_path)
    data = texts(spec.task.data, text="text", label="label", test=spec.task.test)
    pool, test = set(data.pool.inputs.rows), set(data.test.inputs.rows)
    assert (len(pool), len(test)) == (len(data.pool), len(data.test)) == (5000, 400)
    assert not pool & test
    assert (pool | test) <= {(" ".join(text.split()),) for text, _ in film_reviews}
    assert data.classes == ("bad", "good")


def test_stops_are_the_ends_of_quarters():
    """They count from 0, and the last is the end of the run."""
    assert stops(8) == (1, 3, 5, 7)
    assert stops(20) == (4, 9, 14, 19)
    assert stops(6) == (1, 2, 4, 5)


def test_near_copies_of_emoji_share_a_key():
    """The name without sex follows those with it."""
    names = ["woman-running", "man_running_facing_right", "runner", "eyes", "male-cook", "man", "cook"]
    assert copies(names) == ["running", "running", "running", "eyes", "cook", "man", "man"]


def made(repeats: int, *, sizes: tuple[int, ...] = (50, 100), trains_all: bool = True) -> Table:
    dice = np.random.default_rng(repeats)
    shape = (len(Grid.of("digits", 4).strategies()), len(sizes), repeats, 20)  # ..., epochs
    outcomes = dice.uniform(0, 1, (*shape[:3], 4 if trains_all else 1, 501)) < 0.8
    return Table(
        task="digits",
        num_groups=4,
        sizes=sizes,
        repeats=repeats,
        val_loss=dice.uniform(0.01, 2, shape).astype(np.float32),
        val_accuracy=dice.uniform(0, 1, shape).astype(np.float32),
        test_accuracy=accuracy(outcomes) if trains_all else dice.uniform(0, 1, shape).astype(np.float32),
        seconds=dice.uniform(0, 1, shape).astype(np.float32),
        outcomes=outcomes,
        weights={"0.weight": dice.uniform(-1, 1, (3, 2)).astype(np.float32)},
        trains_all=trains_all,
    )


@pytest.mark.parametrize("trains_all", [True, False])
def test_saved_table_is_read_again(tmp_path, trains_all):
    """Both ways of training come back."""
    table = made(3, trains_all=trains_all)
    table.val_loss[0, 0, 0, 5:] = np.inf  # a run that diverged
    table.save(tmp_path)
    again = Table.load("digits", tmp_path)
    assert np.array_equal(again.outcomes, table.outcomes)
    assert np.array_equal(again.weights["0.weight"], table.weights["0.weight"])
    assert (again.num_groups, again.sizes, again.repeats, again.trains_all) == (4, (50, 100), 3, trains_all)
    np.testing.assert_allclose(again.val_loss, table.val_loss, rtol=1e-3)
    np.testing.assert_allclose(again.test_accuracy, table.test_accuracy, atol=1e-4)
    assert again.tested[again.best_epoch[0, 0, 0]] < 5


def test_packed_repeats_stay_to_the_bit_as_more_are_added(tmp_path, monkeypatch):
    """A repeat that lacks a size waits."""
    (tmp_path / "cells").mkdir()
    sizes = tuple(spec_of("digits").task.sizes)
    made(3, sizes=sizes).save(tmp_path)
    before, later = Table.load("digits", tmp_path), made(2, sizes=sizes)
    monkeypatch.setattr(fill, "stored", lambda task: Table.load(task, tmp_path))
    write_cells(tmp_path, later, first=3, last_sizes=4)
    fill.pack(tmp_path, "digits").save(tmp_path)
    after = Table.load("digits", tmp_path)
    assert (before.repeats, after.repeats) == (3, 4)
    for name in Cell.__dataclass_fields__:
        assert np.array_equal(getattr(after, name)[:, :, :3], getattr(before, name))
    assert np.array_equal(after.outcomes[:, :, 3], later.outcomes[:, :, 0])
    assert np.array_equal(after.weights["0.weight"], before.weights["0.weight"])
    assert fill.pack(tmp_path, "digits").repeats == 4, "no repeat is added twice"


def test_table_of_the_old_way_is_replaced(tmp_path, monkeypatch):
    """Only its source task's weights stay; a table of another grid or other sizes goes too."""
    (tmp_path / "cells").mkdir()
    sizes = tuple(spec_of("digits").task.sizes)
    for other in (made(3), replace(made(3, sizes=sizes), val_loss=np.ones((7, 5, 3, 20), np.float32))):
        monkeypatch.setattr(fill, "stored", lambda task, other=other: other)
        assert fill.current("digits") is None
    old, new = made(3, sizes=sizes, trains_all=False), made(2, sizes=sizes)
    monkeypatch.setattr(fill, "stored", lambda task: old)
    assert fill.pack(tmp_path, "digits") is None
    write_cells(tmp_path, new, first=0, last_sizes=5)
    packed = fill.pack(tmp_path, "digits")
    assert (packed.repeats, packed.trains_all) == (2, True)
    assert np.array_equal(packed.outcomes, new.outcomes)
    assert packed.weights is old.weights


def write_cells(folder, table, *, first, last_sizes):
    """Write a table's blocks as trained repeats; the last has only so many sizes."""
    for repeat in range(table.repeats):
        for at, size in enumerate(table.sizes[: None if repeat < table.repeats - 1 else last_sizes]):
            cells = {name: getattr(table, name)[:, at, repeat] for name in Cell.__dataclass_fields__}
            np.savez(fill.file_of(folder, (table.task, first + repeat, size)), num_groups=4, **cells)


@pytest.mark.parametrize("task", FILLED)
def test_outcomes_are_those_of_the_best_epochs(task):
    """In the older tables; in the others they are those of the stops."""
    table = Table.load(task)
    assert table.val_loss.shape[:2] == (len(table.strategies), len(spec_of(task).task.sizes))
    if table.trains_all:
        assert np.array_equal(accuracy(table.outcomes), table.test_accuracy)
        return
    # Halves may make two epochs' losses equal that were not; then another epoch's accuracy is read.
    best = np.take_along_axis(table.test_accuracy, table.best_epoch[..., None], axis=-1)
    assert np.mean(np.abs(accuracy(table.outcomes) - best) > 1e-3) < 0.05


def test_last_outcomes_are_the_known_ones_with_fewest_flips():
    """The accuracy is the last epoch's, and no example is turned both ways."""
    table = made(2, trains_all=False)
    known, last = table.outcomes[..., 0, :], table.outcome
    missing = np.round(table.score * 501) - known.sum(axis=-1)
    assert np.array_equal((known != last).sum(axis=-1), np.abs(missing))
    easy = known.mean(axis=(0, 2))
    turned = (last & ~known)[0, 0, 0]
    left = ~(last | known)[0, 0, 0]
    assert easy[0][turned].min(initial=1) >= easy[0][left].max(initial=0)
    assert np.array_equal(made(2).outcome, made(2).outcomes[..., -1, :])


def test_imitated_validation_has_the_noise_of_more_examples():
    """Ten examples validate at size 50, and `VALIDATED` are imitated."""
    table = made(20, trains_all=False)
    assert table.held_out == (10, 20)
    assert table.trained == (40, 80)
    inside = replace(table, val_accuracy=table.test_accuracy + 0.01)
    gap = (inside.undrawn - inside.test_accuracy)[..., :-1]
    inner = (inside.test_accuracy < 0.98)[..., :-1]
    assert np.allclose(gap[:, 0][inner[:, 0]], 0.01 * (10 / VALIDATED) ** 0.5, atol=1e-6)
    assert made(2).undrawn is not None


def test_value_is_the_product_s_mean_of_late_epochs():
    """It is that of `search.training.callbacks`, in every epoch."""
    from search.training.callbacks import late_mean

    table = made(2)
    curve = table.undrawn[3, 1, 1].tolist()
    expected = [late_mean(curve[: epoch + 1]) for epoch in range(20)]
    np.testing.assert_allclose(table.values[3, 1, 1], expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.skipif("emoji" not in FILLED, reason="the table of emoji is not filled")
def test_cells_trained_again_are_the_same(assets, tmp_path, monkeypatch):
    """Training by the product still gives the table."""
    from search.task.task import Task

    table = Table.load("emoji")
    prepare(tmp_path, assets, [spec_of("emoji")])
    monkeypatch.chdir(tmp_path)
    task = Task.load(spec_of("emoji"))
    for place, size, repeat in ((0, 0, 0), (21, 1, 1)):
        cell = train_cell(task, table.strategies[place], size=table.sizes[size], repeat=repeat)
        # Another machine's kernels round otherwise.
        assert np.median(np.abs(cell.val_loss / table.val_loss[place, size, repeat] - 1)) < 0.05
        assert abs(cell.outcomes[-1].mean() - table.score[place, size, repeat]) < 0.03


def test_unknown_rate_is_moved_by_its_ratio():
    grid = Grid.of("digits", 4)
    strategy = replace(FreezingStrategy.full_fine_tuning(head_lr=2.1e-3), backbone_lr_ratio=0.4)
    moved = grid.nearest(strategy)
    assert (moved.head_lr, moved.backbone_lr_ratio) == (4e-3, 1.0)
