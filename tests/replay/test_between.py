"""Sizes left out of replayed studies: nothing of them is seen, and their predicted scores are true."""

from dataclasses import replace

import numpy as np
import pytest

from search.verdict.judge import judge_all
from tests.replay.between import OURS, REPEATS, TRIALS, compare, replayed, shown
from tests.replay.grid import Grid
from tests.replay.search import Replay
from tests.replay.table import Table

SIZES = (50, 100, 200, 400, 800)


@pytest.fixture(scope="module")
def world() -> Table:
    """Every strategy's error is a power law of the size, with noise over repeats and test examples."""
    dice = np.random.default_rng(0)
    strategies, repeats, examples = len(Grid.of("digits", 4).strategies()), 10, 400
    start, slope = dice.uniform(1, 2, (strategies, 1)), dice.uniform(-0.45, -0.35, (strategies, 1))
    error = (start * np.array(SIZES) ** slope)[:, :, None] * np.exp(dice.normal(0, 0.05, (strategies, 5, repeats)))
    outcome = dice.random((strategies, 5, repeats, examples)) > error[..., None]
    curve = np.repeat(error[..., None], 2, axis=-1).astype(np.float32)
    accuracy = np.repeat(outcome.mean(axis=-1)[..., None], 2, axis=-1).astype(np.float32)
    return Table(
        task="digits", num_groups=4, sizes=SIZES, repeats=repeats, val_loss=curve, val_accuracy=1 - curve,
        test_accuracy=accuracy, seconds=np.ones_like(curve), outcome=outcome, weights={},
    )  # fmt: skip


def test_replayed_study_is_complete(world):
    results = replayed(Replay(world), np.random.default_rng(0))
    assert results.is_finished(SIZES)
    assert set(judge_all(results)) == set(SIZES)
    for size in SIZES:
        assert len({row.strategy for row in results.explored(size)}) == TRIALS
        assert {row.repeat for row in results.confirmed(size)} == set(range(1, REPEATS + 1))


def test_power_laws_are_predicted_inside_and_outside(world):
    cases = compare(world, studies=20)
    asked = {(case.left, case.size) for case in cases}
    assert asked == {
        *(((size,), size) for size in SIZES),
        *((left, size) for left in ((100, 200), (200, 400)) for size in left),
    }
    for inside in (True, False):
        some = [case for case in cases if (case.size not in (50, 800)) == inside]
        assert np.mean([case.covers for case in some]) >= 0.85
        assert abs(np.mean([case.off for case in some])) < 1
    assert shown(world, cases).row_count == 1 + len(asked)


def test_size_left_out_is_not_seen(world):
    def predicted(table):
        return [(case.off, case.half, case.regrets) for case in compare(table, studies=3) if case.left == (200,)]

    changed = world.val_loss.copy()
    changed[:, 2] = changed[::-1, 2]
    assert predicted(replace(world, val_loss=changed)) == predicted(world)


def test_equal_strategies_have_no_regret(world):
    same = {
        name: np.broadcast_to(getattr(world, name)[:1], getattr(world, name).shape)
        for name in ("outcome", "test_accuracy")
    }
    for case in compare(replace(world, **same), studies=3):
        assert all(regret == pytest.approx(0, abs=1e-9) for regret in case.regrets.values())
        assert OURS in case.regrets
