from hypothesis import given
from hypothesis import strategies as st

from strategies import FreezingStrategy


@given(st.integers(1, 6), st.data())
def test_thaws_run_from_the_head_down_and_never_back(num_groups, data):
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


def test_gradual_unfreezing_thaws_one_group_every_k_epochs():
    schedule = FreezingStrategy(freeze_depth=1, unfreeze_epoch=2, epochs_per_group=3).schedule(4, 20)
    assert schedule.thaw_epochs == (None, 8, 5, 2)
    assert schedule.last_unfreezing == 8


def test_learning_rates_fall_towards_the_input():
    schedule = FreezingStrategy(freeze_depth=1, backbone_lr_ratio=0.5, layer_lr_decay=0.1).schedule(4)
    assert schedule.lr_shares == (0.0, 0.5 * 0.1**2, 0.5 * 0.1, 0.5)
