import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies import FreezingStrategy


@given(st.integers(1, 6), st.data())
def test_groups_unfreeze_from_the_head_down_for_good(num_groups, data):
    strategy = FreezingStrategy(
        freeze_depth=data.draw(st.integers(0, num_groups)),
        unfreeze_epoch=data.draw(st.integers(0, 10)),
        epochs_per_group=data.draw(st.integers(0, 3)),
    )
    schedule = strategy.schedule(num_groups, 12)
    previous = (False,) * num_groups
    for epoch in range(12):
        trainable = schedule.trainable(epoch)
        assert list(trainable) == sorted(trainable), "what trains is a suffix of the groups"
        assert all(now or not before for before, now in zip(previous, trainable, strict=True))
        assert schedule.frozen_prefix(epoch) == trainable.count(False)
        previous = trainable
    assert previous == tuple(share > 0 for share in schedule.lr_shares)
    assert schedule.trainable(schedule.last_unfreezing) == previous


def test_gradual_unfreezing_unfreezes_one_group_every_k_epochs():
    schedule = FreezingStrategy(freeze_depth=1, unfreeze_epoch=2, epochs_per_group=3).schedule(4, 20)
    assert schedule.unfreeze_epochs == (None, 8, 5, 2)
    assert schedule.last_unfreezing == 8


def test_learning_rates_fall_towards_the_input():
    schedule = FreezingStrategy(freeze_depth=1, backbone_lr_ratio=0.5, layer_lr_decay=0.1).schedule(4)
    assert schedule.lr_shares == (0.0, 0.5 * 0.1**2, 0.5 * 0.1, 0.5)


def rates(strategy, num_groups, epochs, steps, *, of):
    """One learning rate over the head's base, step by step."""
    schedule = strategy.schedule(num_groups, epochs)
    base = (*schedule.lr_shares, 1.0)[of]
    return [
        base * schedule.lr_factors(epoch, step=step, steps_per_epoch=steps)[of]
        for epoch in range(epochs)
        for step in range(steps)
    ]


def test_growth_stops_at_the_heads_rate():
    strategy = FreezingStrategy(freeze_depth=0, unfreeze_epoch=1, backbone_lr_ratio=0.2, lr_growth=2)
    assert rates(strategy, 2, 6, 1, of=0) == pytest.approx([0, 0.2, 0.4, 0.8, 1, 1])
    assert rates(strategy, 2, 6, 1, of=-1) == [1] * 6
    above = FreezingStrategy(freeze_depth=0, backbone_lr_ratio=3, lr_growth=2)
    assert rates(above, 1, 3, 1, of=0) == [3] * 3, "what starts above the head stays there"


def test_growth_past_any_float_stops_at_the_head():
    strategy = FreezingStrategy(freeze_depth=0, backbone_lr_ratio=1e-4, lr_growth=1e200)
    assert rates(strategy, 1, 5, 1, of=0) == pytest.approx([1e-4, 1, 1, 1, 1])


def test_warm_up_starts_at_the_unfreezing_above_zero():
    strategy = FreezingStrategy(
        freeze_depth=0, unfreeze_epoch=1, epochs_per_group=1, backbone_lr_ratio=1, warmup_steps=3
    )
    assert rates(strategy, 2, 4, 2, of=1) == [0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert rates(strategy, 2, 4, 2, of=0) == [0, 0, 0, 0, 0.25, 0.5, 0.75, 1]
    assert rates(strategy, 2, 4, 2, of=-1) == [1] * 8, "the head needs none: it has nothing to lose"


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [("linear", [1, 0.75, 0.5, 0.25]), ("cosine", [(1 + math.cos(math.pi * t / 4)) / 2 for t in range(4)])],
)
def test_a_scheduler_moves_all_rates(scheduler, expected):
    strategy = FreezingStrategy(freeze_depth=1, backbone_lr_ratio=0.5, scheduler=scheduler)
    assert rates(strategy, 2, 2, 2, of=-1) == pytest.approx(expected)
    assert rates(strategy, 2, 2, 2, of=1) == pytest.approx([0.5 * factor for factor in expected])
    assert rates(strategy, 2, 2, 2, of=0) == [0] * 4
    with pytest.raises(ValueError, match="needs the number of epochs"):
        strategy.schedule(2).lr_factors(0, step=0, steps_per_epoch=2)


def test_rates_are_constant_unless_a_field_moves_them():
    assert not FreezingStrategy(freeze_depth=0, unfreeze_epoch=3, layer_lr_decay=0.5).schedule(2, 9).rates_move
    assert not FreezingStrategy(freeze_depth=2, lr_growth=2, warmup_steps=2).schedule(2, 9).rates_move
    for refinement in ({"lr_growth": 2}, {"warmup_steps": 2}, {"scheduler": "cosine"}):
        assert FreezingStrategy(freeze_depth=0, **refinement).schedule(2, 9).rates_move


@given(st.integers(1, 5), st.integers(0, 9), st.integers(0, 4), st.data())
def test_growth_stays_between_start_and_head(num_groups, unfreeze, per_group, data):
    strategy = FreezingStrategy(
        freeze_depth=data.draw(st.integers(0, num_groups)),
        unfreeze_epoch=unfreeze,
        epochs_per_group=per_group,
        backbone_lr_ratio=data.draw(st.floats(1e-3, 1)),
        layer_lr_decay=data.draw(st.floats(0.1, 1)),
        lr_growth=data.draw(st.floats(1, 4)),
    )
    schedule = strategy.schedule(num_groups, 10)
    for epoch in range(10):
        *factors, head = schedule.lr_factors(epoch, step=0, steps_per_epoch=1)
        assert head == 1
        assert [factor > 0 for factor in factors] == list(schedule.trainable(epoch))
        for share, factor in zip(schedule.lr_shares, factors, strict=True):
            assert factor == 0 or share <= share * factor <= 1 + 1e-12
