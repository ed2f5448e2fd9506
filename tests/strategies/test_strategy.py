import math
from itertools import product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from strategies import Family, FreezingStrategy


@st.composite
def cases(draw: st.DrawFn) -> tuple[FreezingStrategy, int, int]:
    """A strategy, a number of groups it fits, and a number of epochs."""
    num_groups = draw(st.integers(1, 8))
    strategy = FreezingStrategy(
        freeze_depth=draw(st.integers(0, num_groups)),
        unfreeze_epoch=draw(st.integers(0, 25)),
        backbone_lr_ratio=draw(st.floats(1e-3, 2.0)),
        head_lr=draw(st.floats(1e-5, 1.0)),
        epochs_per_group=draw(st.integers(0, 5)),
        layer_lr_decay=draw(st.floats(0.1, 1.0)),
        pretrained=draw(st.booleans()),
    )
    return strategy, num_groups, draw(st.integers(1, 25))


@given(cases())
def test_canonical_behaves_the_same(case):
    strategy, num_groups, epochs = case
    schedule = strategy.schedule(num_groups, epochs)
    assert strategy.canonical(num_groups, epochs).schedule(num_groups, epochs) == schedule


def test_equal_behaviour_has_one_spelling():
    spellings = {}
    for depth, unfreeze, per_group, ratio, decay in product(range(4), range(6), range(4), (0.1, 0.5), (1.0, 0.5)):
        strategy = FreezingStrategy(
            freeze_depth=depth,
            unfreeze_epoch=unfreeze,
            epochs_per_group=per_group,
            backbone_lr_ratio=ratio,
            layer_lr_decay=decay,
        )
        spellings.setdefault(strategy.schedule(3, 4), set()).add(strategy.canonical(3, 4))
    assert len(spellings) > 50
    assert all(len(canonical) == 1 for canonical in spellings.values())


def test_everything_frozen_has_no_unfreeze_epoch_and_no_ratio():
    probing = FreezingStrategy(freeze_depth=4, head_lr=0.01)
    for spelling in (
        FreezingStrategy(freeze_depth=4, unfreeze_epoch=3, backbone_lr_ratio=0.7, head_lr=0.01),
        FreezingStrategy(freeze_depth=1, unfreeze_epoch=20, head_lr=0.01),
        FreezingStrategy(freeze_depth=0, unfreeze_epoch=25, epochs_per_group=2, layer_lr_decay=0.5, head_lr=0.01),
    ):
        assert spelling.canonical(4, 20) == probing
    assert probing.to_params() == {"freeze_depth": 4, "head_lr": 0.01}


def test_groups_that_would_thaw_too_late_count_as_frozen():
    strategy = FreezingStrategy(freeze_depth=0, unfreeze_epoch=5, epochs_per_group=10)
    assert strategy.canonical(4, 20).freeze_depth == 2
    assert strategy.canonical(4, 6) == FreezingStrategy(freeze_depth=3, unfreeze_epoch=5)


@given(cases())
def test_canonical_is_idempotent_and_fits_from_params(case):
    strategy, num_groups, epochs = case
    canonical = strategy.canonical(num_groups, epochs)
    assert canonical.canonical(num_groups, epochs) == canonical
    assert FreezingStrategy.from_params(canonical.to_params()) == canonical


@pytest.mark.parametrize(
    ("strategy", "family"),
    [
        (FreezingStrategy.linear_probing(num_groups=4), Family.LINEAR_PROBING),
        (FreezingStrategy.partial_freezing(freeze_depth=2), Family.PARTIAL_FREEZING),
        (FreezingStrategy.full_fine_tuning(), Family.FULL_FINE_TUNING),
        (FreezingStrategy.freeze_then_unfreeze(unfreeze_epoch=5), Family.FREEZE_THEN_UNFREEZE),
        (FreezingStrategy(freeze_depth=2, unfreeze_epoch=5), Family.FREEZE_THEN_UNFREEZE),
        (FreezingStrategy.gradual_unfreezing(epochs_per_group=2), Family.GRADUAL_UNFREEZING),
        (FreezingStrategy(freeze_depth=3, epochs_per_group=2), Family.PARTIAL_FREEZING),
        (FreezingStrategy.from_scratch(), Family.FROM_SCRATCH),
        (FreezingStrategy(freeze_depth=4, pretrained=False), Family.FROM_SCRATCH),
    ],
)
def test_family_is_the_first_that_matches(strategy, family):
    assert strategy.family(4) is family


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"freeze_depth": -1}, ValueError, "`freeze_depth` must be at least 0, got -1"),
        ({"freeze_depth": 1.5}, TypeError, "`freeze_depth` must be a whole number"),
        ({"freeze_depth": True}, TypeError, "`freeze_depth` must be a whole number"),
        ({"freeze_depth": 0, "head_lr": 0.0}, ValueError, "`head_lr` must be finite and greater than 0"),
        ({"freeze_depth": 0, "head_lr": math.nan}, ValueError, "`head_lr` must be finite"),
        ({"freeze_depth": 0, "pretrained": 1}, TypeError, "`pretrained` must be true or false"),
        ({"freeze_depth": 0, "epochs": 0}, ValueError, "`epochs` must be at least 1"),
        ({"freeze_dept": 0}, ValueError, "`freeze_dept` is not a strategy's field; allowed: freeze_depth"),
        ({"head_lr": 0.1}, ValueError, "`freeze_depth` is missing"),
    ],
)
def test_bad_fields_are_named(fields, error, message):
    with pytest.raises(error, match=message):
        FreezingStrategy.from_params(fields)


def test_depth_beyond_the_groups_is_refused():
    with pytest.raises(ValueError, match="between 0 and 4"):
        FreezingStrategy(freeze_depth=5).schedule(4)


@given(cases(), st.integers(1, 200))
def test_rescaled_keeps_what_thaws_within_the_run(case, epochs):
    strategy, num_groups, budget = case
    strategy = FreezingStrategy.from_params(strategy.to_params() | {"epochs": budget})
    strategy = strategy.canonical(num_groups, budget)
    assume(epochs >= budget)
    longer = strategy.rescaled(epochs=epochs)
    assert longer.canonical(num_groups, epochs).freeze_depth == strategy.freeze_depth
    assert (longer.unfreeze_epoch > 0) == (strategy.unfreeze_epoch > 0)


def test_rescaled_moves_thaws_to_the_same_fraction():
    strategy = FreezingStrategy(freeze_depth=0, unfreeze_epoch=5, epochs_per_group=2, epochs=20)
    assert strategy.rescaled(epochs=40) == FreezingStrategy(
        freeze_depth=0, unfreeze_epoch=10, epochs_per_group=4, epochs=40
    )
    with pytest.raises(ValueError, match="not known"):
        FreezingStrategy(freeze_depth=0).rescaled(epochs=3)
