import math
from dataclasses import fields, replace
from itertools import product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from strategies import Family, FreezingStrategy

DEFAULTS = FreezingStrategy(freeze_depth=0).to_params()
del DEFAULTS["freeze_depth"], DEFAULTS["head_lr"]


@st.composite
def cases(draw: st.DrawFn) -> tuple[FreezingStrategy, int, int]:
    """Draw a strategy, a number of groups that suits it, and a number of epochs."""
    num_groups = draw(st.integers(1, 8))
    strategy = FreezingStrategy(
        freeze_depth=draw(st.integers(0, num_groups)),
        unfreeze_epoch=draw(st.integers(0, 25)),
        backbone_lr_ratio=draw(st.floats(1e-3, 2.0)),
        head_lr=draw(st.floats(1e-5, 1.0)),
        epochs_per_group=draw(st.integers(0, 5)),
        layer_lr_decay=draw(st.floats(0.1, 1.0)),
        pretrained=draw(st.booleans()),
        lr_growth=draw(st.sampled_from([1.0, 1.5, 10.0, 1e300])),
        warmup_steps=draw(st.integers(0, 9)),
        scheduler=draw(st.sampled_from(["constant", "cosine", "linear"])),
        parameters=draw(st.sampled_from(["trainable", "all", "norm", "bias"])),
        batch_norm=draw(st.sampled_from(["train", "frozen"])),
        l2_sp=draw(st.sampled_from([0.0, 0.01])),
    )
    return strategy, num_groups, draw(st.integers(1, 25))


def behaviour(strategy: FreezingStrategy, num_groups: int, epochs: int) -> tuple[object, ...]:
    """All that a run of these epochs, of three steps each, would ever see of a strategy."""
    schedule = strategy.schedule(num_groups, epochs)
    rates = tuple(
        round(base * factor, 12)
        for epoch in range(epochs)
        for step in range(3)
        for base, factor in zip(
            (*schedule.lr_shares, 1.0), schedule.lr_factors(epoch, step=step, steps_per_epoch=3), strict=True
        )
    )
    unfreezes = any(schedule.trainable(epochs))
    what = (strategy.parameters, strategy.batch_norm, strategy.l2_sp * strategy.pulls_back) if unfreezes else ()
    return schedule.unfreeze_epochs, strategy.head_lr, strategy.pretrained, rates, what


@given(cases())
def test_canonical_behaves_the_same(case):
    strategy, num_groups, epochs = case
    canonical = strategy.canonical(num_groups, epochs)
    assert behaviour(canonical, num_groups, epochs) == behaviour(strategy, num_groups, epochs)


# Small grids whose values often behave alike: everything frozen, one group left, no epoch left to grow in.
UNFREEZES = {
    "freeze_depth": range(4),
    "unfreeze_epoch": range(6),
    "epochs_per_group": range(4),
    "backbone_lr_ratio": (0.1, 0.5),
    "layer_lr_decay": (1.0, 0.5),
}
RATES = {
    "freeze_depth": (0, 2, 3),
    "unfreeze_epoch": (0, 2, 3, 4),
    "epochs_per_group": (0, 1),
    "backbone_lr_ratio": (0.25, 1.0, 2.0),
    "layer_lr_decay": (1.0, 0.5),
    "lr_growth": (1.0, 2.0, 4.0, 8.0, 100.0),
    "warmup_steps": (0, 2),
    "scheduler": ("constant", "cosine"),
}
WEIGHTS = {
    "freeze_depth": (0, 3),
    "unfreeze_epoch": (0, 4),
    "pretrained": (True, False),
    "parameters": ("trainable", "all", "norm", "bias"),
    "batch_norm": ("train", "frozen"),
    "l2_sp": (0.0, 0.1),
}


@pytest.mark.parametrize("grid", [UNFREEZES, RATES, WEIGHTS], ids=["unfreezes", "rates", "weights"])
def test_equal_behaviour_has_one_spelling(grid):
    spellings = {}
    for values in product(*grid.values()):
        strategy = FreezingStrategy(**dict(zip(grid, values, strict=True)))
        spellings.setdefault(behaviour(strategy, 3, 4), set()).add(strategy.canonical(3, 4))
    assert len(spellings) >= 20
    assert [found for found in spellings.values() if len(found) > 1] == []


def test_canonical_linear_probing_has_two_fields():
    probing = FreezingStrategy(freeze_depth=4, head_lr=0.01)
    for spelling in (
        FreezingStrategy(freeze_depth=4, unfreeze_epoch=3, backbone_lr_ratio=0.7, head_lr=0.01),
        FreezingStrategy(freeze_depth=1, unfreeze_epoch=20, head_lr=0.01),
        FreezingStrategy(freeze_depth=4, lr_growth=2, warmup_steps=5, parameters="bias", head_lr=0.01),
        FreezingStrategy(freeze_depth=4, batch_norm="frozen", l2_sp=0.1, head_lr=0.01),
        FreezingStrategy(freeze_depth=0, unfreeze_epoch=25, epochs_per_group=2, layer_lr_decay=0.5, head_lr=0.01),
    ):
        assert spelling.canonical(4, 20) == probing
    assert probing.to_params(defaults=False) == {"freeze_depth": 4, "head_lr": 0.01}


@given(cases())
def test_params_spell_every_field_that_is_known(case):
    strategy = case[0]
    params = strategy.to_params()
    assert params.keys() == {field.name for field in fields(strategy)} - {"epochs", "steps_per_epoch"}
    assert FreezingStrategy.from_params(params) == strategy
    short = strategy.to_params(defaults=False)
    assert short.items() <= params.items()
    assert FreezingStrategy.from_params(short) == strategy
    assert (short.keys() == {"freeze_depth", "head_lr"}) == (strategy == replace(strategy, **DEFAULTS))


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
        (FreezingStrategy(freeze_depth=0, parameters="bias"), Family.PARTIAL_FREEZING),
        (FreezingStrategy(freeze_depth=0, parameters="all"), Family.FULL_FINE_TUNING),
        (FreezingStrategy(freeze_depth=0, batch_norm="frozen"), Family.FULL_FINE_TUNING),
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
        ({"freeze_depth": 0, "lr_growth": 0.9}, ValueError, "`lr_growth` must be finite and at least 1, got 0.9"),
        ({"freeze_depth": 0, "l2_sp": -1}, ValueError, "`l2_sp` must be finite and at least 0, got -1"),
        ({"freeze_depth": 0, "warmup_steps": 1.0}, TypeError, "`warmup_steps` must be a whole number, got 1.0"),
        ({"freeze_depth": 0, "parameters": "bn"}, ValueError, 'one of "trainable", "all", "norm", "bias", got'),
        ({"freeze_depth": 0, "scheduler": 1}, ValueError, '`scheduler` must be one of "constant", "cosine", "linear"'),
        (
            {"freeze_depth": 0, "batch_norm": None},
            ValueError,
            '`batch_norm` must be one of "train", "frozen", got None',
        ),
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
def test_rescaled_keeps_what_unfreezes_within_the_run(case, epochs):
    strategy, num_groups, budget = case
    strategy = FreezingStrategy.from_params(strategy.to_params() | {"epochs": budget})
    strategy = strategy.canonical(num_groups, budget)
    assume(epochs >= budget)
    longer = strategy.rescaled(epochs=epochs)
    assert longer.canonical(num_groups, epochs).freeze_depth == strategy.freeze_depth
    assert (longer.unfreeze_epoch > 0) == (strategy.unfreeze_epoch > 0)


def test_rescaled_moves_unfreezes_to_the_same_fraction():
    strategy = FreezingStrategy(freeze_depth=0, unfreeze_epoch=5, epochs_per_group=2, epochs=20)
    assert strategy.rescaled(epochs=40) == FreezingStrategy(
        freeze_depth=0, unfreeze_epoch=10, epochs_per_group=4, epochs=40
    )
    with pytest.raises(ValueError, match="not known"):
        FreezingStrategy(freeze_depth=0).rescaled(epochs=3)


def test_rescaled_moves_warm_up_and_growth_to_the_same_fraction():
    strategy = FreezingStrategy(freeze_depth=0, backbone_lr_ratio=0.01, lr_growth=1.21, warmup_steps=10, epochs=20)
    longer = strategy.rescaled(epochs=40)
    assert longer.warmup_steps == 20
    assert longer.lr_growth == pytest.approx(1.1)
    assert strategy.rescaled(epochs=20) == strategy
    assert strategy.rescaled(epochs=1).warmup_steps == 1, "where there was a warm-up, there is one"
    steep = FreezingStrategy(freeze_depth=0, lr_growth=1e300, epochs=20)
    assert math.isfinite(steep.rescaled(epochs=1).lr_growth)
