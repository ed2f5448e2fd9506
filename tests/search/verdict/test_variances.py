"""Variances from few numbers, where the truth is known."""

import numpy as np
import pytest

from search.verdict.variances import draws_share, moderated


def test_moderated_variances_of_alike_strategies_vary_less():
    """They keep the mean."""
    rng = np.random.default_rng(0)
    own, shrunk = [], []
    for _ in range(500):
        deviations = rng.normal(size=(5, 6))
        deviations -= deviations.mean(axis=0)
        better, freedom = moderated(deviations)
        assert 4 < freedom <= 8
        own.append(np.square(deviations).sum(axis=0) / 4)
        shrunk.append(np.square(better).sum(axis=0) / 4)
    assert np.std(shrunk) < 0.75 * np.std(own)
    assert np.mean(shrunk) == pytest.approx(np.mean(own), rel=0.15)


def test_moderated_leaves_unlike_variances_alone():
    deviations = np.random.default_rng(0).normal(size=(8, 4)) * [1, 1e-3, 1e4, 1e8]
    better, freedom = moderated(deviations)
    assert better == pytest.approx(deviations, rel=0.1)
    assert freedom < 7.2


@pytest.mark.parametrize("deviations", [np.ones((5, 2)), np.outer(np.arange(5.0) - 2, [1, 1, 0])])
def test_moderated_needs_three_that_vary(deviations):
    better, freedom = moderated(deviations)
    assert (better == deviations).all()
    assert freedom == 4


def test_draws_share_is_what_tests_do_not_explain():
    rng = np.random.default_rng(0)
    scores = rng.normal(scale=np.sqrt(4 + 1), size=(2000, 3))
    assert draws_share(scores, np.eye(3)) == pytest.approx(0.8, abs=0.02)
    assert draws_share(scores, 9 * np.eye(3)) == 0
    assert draws_share(scores[:1], np.eye(3)) == 1, "one repeat has no variance"
