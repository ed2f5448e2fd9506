"""The operations that training a strategy takes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.storage.location import StudyLocation
from search.verdict.cost import gflops, training_flops
from search.verdict.judge import judge
from search.verdict.load import load_results
from strategies import FreezingStrategy

FORWARD = (100, 200, 300, 7)
RUN = {"forward": FORWARD, "epochs": 10, "examples": 64, "cached": 20}
HEAD = 3 * 7 * 64 * 10


def cost(**fields):
    return training_flops(FreezingStrategy(**fields), **RUN)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"freeze_depth": 3}, 20 * 600 + HEAD),
        ({"freeze_depth": 0}, 10 * 64 * 3 * 600 + HEAD),
        ({"freeze_depth": 2}, 20 * 300 + 10 * 64 * 3 * 300 + HEAD),
        ({"freeze_depth": 2, "parameters": "norm"}, 20 * 300 + 10 * 64 * 2 * 300 + HEAD),
        ({"freeze_depth": 1, "unfreeze_epoch": 4}, 20 * 600 + 6 * 64 * 3 * 500 + HEAD),
        # The last group trains for six epochs, the one before it for three, the first never.
        ({"freeze_depth": 0, "unfreeze_epoch": 4, "epochs_per_group": 3},
         20 * 600 + 64 * 3 * (6 * 300 + 3 * 200) + HEAD),
        ({"freeze_depth": 0, "pretrained": False}, 10 * 64 * 3 * 600 + HEAD),
    ],
)  # fmt: skip
def test_training_flops_are_those_of_a_hand_count(fields, expected):
    """Forward, the gradients of outputs, and those of weights."""
    assert cost(**fields) == expected


def test_frozen_layers_run_each_time_without_a_cache():
    """No more often than they are shown with one."""
    probing = FreezingStrategy(freeze_depth=3)
    shown = 10 * 64 * 600 + HEAD
    assert training_flops(probing, **RUN | {"cached": None}) == shown
    assert training_flops(probing, **RUN | {"cached": 10**6}) == shown


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 2))
def test_training_flops_fall_with_all_that_stays_frozen(one, other, depth):
    """With freeze depth, and with the unfreeze epoch."""
    early, late = sorted((one, other))
    assert cost(freeze_depth=depth, unfreeze_epoch=late) <= cost(freeze_depth=depth, unfreeze_epoch=early)
    assert cost(freeze_depth=depth + 1, unfreeze_epoch=early) < cost(freeze_depth=depth, unfreeze_epoch=early)


@pytest.fixture(scope="module")
def results(finished):
    return load_results(StudyLocation.of("tiny", out=finished / "studies", storage=None))


def test_gflops_are_stored_with_the_study(results):
    """The study's network is small enough to count by hand."""
    train = results.spec.train
    shown = train.epochs * train.steps * train.batch_size
    probing = FreezingStrategy(freeze_depth=results.num_groups)
    expected = 20 * sum(results.flops[:-1]) + 3 * shown * results.flops[-1]
    assert gflops(results, probing, 20) == pytest.approx(expected / 1e9)
    by_depth = {c.strategy.freeze_depth: c.gflops for c in judge(results, 20).every_candidate}
    assert by_depth[results.num_groups] < min(cost for depth, cost in by_depth.items() if depth < results.num_groups)


def test_gflops_follow_the_spec(results):
    """The cache, the views, and a pass for an epoch."""
    probing, frozen = FreezingStrategy(freeze_depth=results.num_groups), sum(results.flops[:-1])

    def frozen_runs(size=20, own_metric=False, **tables):
        spec = results.spec.changed(**tables)
        steps = spec.train.steps
        shown = spec.train.epochs * (size if steps is None else steps * spec.train.batch_size)
        made = gflops(replace(results, spec=spec, own_metric=own_metric), probing, size)
        return round((made * 1e9 - 3 * shown * results.flops[-1]) / frozen), shown

    for known in ({"own_metric": True}, {"activations": {"memory": 0, "disk": 0}},
                  {"train": {"augment": ["flip"], "views": float("inf")}}):  # fmt: skip
        runs, shown = frozen_runs(**known)
        assert runs == shown
    assert frozen_runs(train={"augment": ["flip"], "views": 2})[0] == 40
    assert frozen_runs(train={"steps_per_epoch": "pass"}) == (20, 20 * results.spec.train.epochs)


@pytest.mark.parametrize("flops", [(), (1, 2)])
def test_gflops_are_unknown_without_the_networks(results, flops):
    """Of older studies, and where a network can't be counted: seconds are compared then."""
    verdict = judge(replace(results, flops=flops), 20)
    assert {c.gflops for c in verdict.every_candidate} == {None}
    assert verdict.recommended.cost == verdict.recommended.seconds
