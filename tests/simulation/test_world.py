"""The world and its learners: what is exact is what is sampled."""

import numpy as np
import pytest

from tests.simulation.study import outcomes_of
from tests.simulation.world import STRATEGIES, accuracy, draw, train, truth


def test_accuracy_is_that_of_many_examples():
    rng = np.random.default_rng(0)
    heads = train(rng, STRATEGIES, draw(rng, 60))
    assert accuracy(heads) == pytest.approx(outcomes_of(heads, draw(rng, 100_000)).mean(axis=0), abs=0.004)


@pytest.mark.parametrize("size", [40, 200, 800])
def test_some_strategies_are_alike_and_some_apart(size):
    gaps = 100 * np.diff(np.sort(truth(STRATEGIES, size)))
    assert gaps.min() < 0.3
    assert gaps.sum() > 1.4


def test_more_labels_train_better():
    assert (truth(STRATEGIES, 200) > truth(STRATEGIES, 40)).all()


def test_draws_that_share_labels_are_correlated():
    """Draws from one pool vary less than draws from the world: half of it, nine tenths, and with all the seed alone."""
    rng = np.random.default_rng(0)
    spreads = []
    for share in (0.1, 0.5, 0.9, 1.0):
        within = []
        for _ in range(60):
            pool = draw(rng, round(60 / share))
            drawn = np.array([rng.permutation(len(pool.targets))[:60] for _ in range(6)])
            within.append(accuracy(train(rng, STRATEGIES, pool.at(drawn))).var(axis=0, ddof=1))
        spreads.append(np.mean(within))
    assert (np.diff(spreads) < 0).all()
    assert 0.05 * spreads[0] < spreads[-1] < 0.6 * spreads[0], "what the seed adds"
