"""Splits of simulated studies, and what is judged."""

import numpy as np
import pytest

from tests.simulation.study import GIVEN_EXAMPLES, WAYS, Design, confirm, simulate, splits
from tests.simulation.world import STRATEGIES, truth


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_splits_train_on_none_that_they_test(way, share):
    design = Design(way=way, labels=250, share=share)
    for trained, tested in splits(np.random.default_rng(0), design, 7):
        assert len(set(trained)) == len(trained) == design.size
        assert not set(trained) & set(tested)
        assert (trained % 2).mean() == 0.5, "as many of each class"


def test_crossed_splits_test_each_label_once_a_shuffle():
    design = Design(way="crossed", labels=120, share=0.5)
    tested = [places for _, places in splits(np.random.default_rng(0), design, 10)]
    for shuffle in (tested[:5], tested[5:]):
        assert sorted(np.concatenate(shuffle)) == list(range(120))
    assert set(tested[0]) != set(tested[5])


def test_design_names_what_a_repeat_trains_on():
    assert Design(way="crossed", labels=120, share=1).size == 96
    assert Design(way="held out", labels=120, share=1).size == 96
    assert Design(way="given", labels=120, share=1).size == 120
    assert Design(way="given", labels=1000, share=0.9).sharing == pytest.approx(0.9 / 0.35)
    assert Design(way="crossed", labels=1000, share=0.5).sharing == 0


@pytest.mark.parametrize("way", WAYS)
def test_confirm_judges_all_strategies(way):
    design = Design(way=way, labels=120, share=0.5, repeats=10)
    study = simulate(np.random.default_rng(0), design, STRATEGIES, truth(STRATEGIES, design.size))
    judged = confirm(study)
    assert study.outcomes.shape[1] == {"held out": 24, "given": GIVEN_EXAMPLES, "crossed": 120}[way]
    assert np.isfinite([judged.found.low, judged.found.high]).all()
    assert judged.found.leader == judged.leader
    assert judged.found.is_near[judged.recommended]
