"""Effects of strategies over sizes, from few runs."""

import numpy as np
import pytest

from search.verdict.pooling import effects


def study(strategies=12, sizes=3, repeats=4, *, noise=1.0, seed=0):
    """Return true effects (strategies, sizes), alike at neighbouring sizes, and values of all runs."""
    rng = np.random.default_rng(seed)
    shared, own = rng.normal(size=(strategies, 1)), rng.normal(size=(strategies, sizes))
    truth = 1.7 * shared + 0.6 * own
    level = 5 * rng.normal(size=(1, sizes, repeats))
    return truth, truth[..., None] + level + noise * rng.normal(size=(strategies, sizes, repeats))


def lost(truth, found):
    """Return how far below the best the one is that seems best, over sizes."""
    return (truth.max(axis=0) - truth[found.argmax(axis=0), range(truth.shape[1])]).mean()


def test_effects_find_the_best_without_noise():
    """Levels of repeats and sizes do not disturb the order."""
    truth, values = study(noise=0.0)
    assert (effects(values).argmax(axis=0) == truth.argmax(axis=0)).all()
    single = effects(values[:, :1])[:, 0]
    assert (np.argsort(single) == np.argsort(truth[:, 0])).all()


def test_effects_choose_better_with_other_sizes():
    """With one noisy run each, what a strategy does at other sizes informs the choice."""
    worlds = [study(sizes=5, repeats=1, noise=2.0, seed=seed) for seed in range(60)]
    pooled = np.mean([lost(truth, effects(values)) for truth, values in worlds])
    alone = np.mean([lost(truth, values[..., 0]) for truth, values in worlds])
    assert pooled < 0.9 * alone


def test_effects_count_hard_repeats_as_hard():
    """A repeat that only the better half ran, and that is harder for all, puts none of them back."""
    truth, values = study(sizes=1, repeats=2, noise=0.0)
    values[:, :, 1] -= 3.0
    values[truth[:, 0] < np.median(truth), :, 1] = np.nan
    found = effects(values)[:, 0]
    plain = np.nanmean(values[:, 0], axis=1)
    assert np.corrcoef(found, truth[:, 0])[0, 1] > 0.99 > np.corrcoef(plain, truth[:, 0])[0, 1]


def test_effects_inform_a_size_without_runs():
    truth, values = study(noise=0.3)
    values[:, 2] = np.nan
    assert np.corrcoef(effects(values)[:, 2], truth[:, 2])[0, 1] > 0.6


def test_effects_are_zero_without_any_run():
    _, values = study()
    values[3] = np.nan
    assert (effects(values)[3] == 0).all()
    assert (effects(np.full((4, 2, 3), np.nan)) == 0).all()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_effects_have_no_unit(scale):
    """Metrics and sizes of any spread count alike."""
    _, values = study()
    scaled = values * np.array([1.0, scale, 1.0])[None, :, None]
    assert np.allclose(effects(scaled), effects(values))


def test_run_that_fails_to_train_moves_nobody_else():
    """However bad it is, the others keep their order."""
    _, values = study(noise=0.5)
    bad, worse = values.copy(), values.copy()
    bad[0, 0, 0], worse[0, 0, 0] = -1e2, -1e9
    assert np.allclose(effects(bad), effects(worse))


def test_effects_order_strategies_that_are_far_behind():
    """The better of two bad ones stays the better one, though neither moves the others."""
    _, values = study(sizes=1, noise=0.1)
    values[0] -= 30.0
    values[1] = values[0] - 10.0
    found = effects(values)[:, 0]
    assert found[1] < found[0] < found[2:].min()


def test_level_of_a_repeat_changes_nothing():
    """However hard it was for all."""
    _, values = study()
    hard = values.copy()
    hard[:, 1, 2] -= 100.0
    hard[:, 2, 0] += 100.0
    assert np.allclose(effects(hard), effects(values))
