"""Pseudo-values: the jackknife of scores that are no mean over examples, with intervals that cover."""

from itertools import pairwise
from math import nan, sqrt

import numpy as np
import pytest
import torch

from search.training.jackknife import MAX_BLOCKS, MAX_NUMBERS, MIN_BLOCKS, pseudo_values, standard_error
from search.training.scoring import evaluate, score
from search.verdict.judge import NORMAL_90
from search.verdict.metric import METRICS
from search.verdict.variances import covariance_of_mean, example_covariance, summed


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def mean_of(values):
    return lambda some: values[some].mean().item()


def test_pseudo_values_of_a_mean_are_the_examples():
    values = normal(150)
    assert pseudo_values(mean_of(values), torch.arange(150)).tolist() == pytest.approx(values.tolist())


@pytest.mark.parametrize("members", [1, 5, 40])
def test_covariance_of_means_is_kept_where_blocks_are_large(members):
    # Two strategies, whose examples resemble each other within a group.
    groups = torch.arange(8000) // members
    both = normal(8000, 2) + normal(len(groups.unique()), 2, seed=1)[groups]
    both[:, 1] += 0.7 * both[:, 0]
    found = torch.stack([pseudo_values(mean_of(both[:, one]), groups) for one in (0, 1)], dim=1)
    assert found.mean(0).tolist() == pytest.approx(both.mean(0).tolist())
    centred = (summed((one - one.mean(0)).numpy(), groups.numpy()) for one in (both, found))
    true, jackknife = (covariance_of_mean(one, 8000) for one in centred)
    assert jackknife == pytest.approx(true, rel=0.3), "of 200 blocks a variance has an error of a tenth"
    for one in (0, 1):
        assert standard_error(found[:, one], groups) == pytest.approx(sqrt(jackknife[one, one]))


def test_blocks_are_whole_groups_and_the_same_for_all():
    groups = torch.from_numpy(np.random.default_rng(0).integers(500, size=3000)) * 7
    one, again, other = (pseudo_values(mean_of(normal(3000, seed=seed)), groups) for seed in (0, 0, 1))
    assert one.tolist() == again.tolist()
    order = groups.argsort()
    within = [pair for pair in pairwise(order.tolist()) if groups[pair[0]] == groups[pair[1]]]
    # A stretch is the block's, and so is the value.
    assert all(one[a] == one[b] for a, b in within)
    assert len(one.unique()) == len(other.unique()) == MAX_BLOCKS
    assert len(torch.stack([one, other]).unique(dim=1).T) == MAX_BLOCKS


def test_many_numbers_are_read_in_fewer_blocks():
    values = normal(1000)
    for width, blocks in ((1, MAX_BLOCKS), (MAX_NUMBERS // 1000 // 80, 80), (MAX_NUMBERS, MIN_BLOCKS)):
        assert len(pseudo_values(mean_of(values), torch.arange(1000), width=width).unique()) == blocks


def test_a_block_without_which_nothing_is_defined_has_the_score():
    values = normal(50)
    found = pseudo_values(lambda some: values[some].mean().item() if 7 in some else nan, torch.arange(50))
    others = [example for example in range(50) if example != 7]
    assert found.isfinite().all()
    assert found.mean().item() == pytest.approx(values.mean().item())
    # They move by the same, so that the mean stays.
    assert len({round(moved, 9) for moved in (found - values)[others].tolist()}) == 1
    assert pseudo_values(lambda _: 3.0, torch.zeros(50)).tolist() == [3.0] * 50, "a single group"


SHARES = {"rare": [0.48, 0.46, 0.06], "two": [0.8, 0.2], "even": [0.25] * 4}
"""The classes' shares."""


def drawn(shares, count, generator):
    """Draw logits and targets of classes with these shares; without any, outputs and targets of a regression."""
    if shares is None:
        inputs = torch.randn(count, 1, generator=generator)
        return inputs, inputs + torch.randn(count, 1, generator=generator) * (0.5 + 0.3 * inputs.abs())
    targets = torch.multinomial(torch.tensor(SHARES[shares]), count, replacement=True, generator=generator)
    classes = len(SHARES[shares])
    return torch.randn(count, classes, generator=generator) + 1.5 * torch.eye(classes)[targets], targets


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shares", "sizes"),
    [
        ("f1", "rare", (60, 150)),
        pytest.param("f1", "even", (60, 500), marks=pytest.mark.soak),
        pytest.param("balanced_accuracy", "rare", (150, 500), marks=pytest.mark.soak),
        pytest.param("auroc", "two", (150, 500), marks=pytest.mark.soak),
        pytest.param("auroc", "rare", (150, 500), marks=pytest.mark.soak),
        pytest.param("average_precision", "even", (60, 300), marks=pytest.mark.soak),
        ("rmse", None, (60,)),
        pytest.param("r2", None, (60, 500), marks=pytest.mark.soak),
    ],
)
def test_intervals_of_pseudo_values_cover(name, shares, sizes):
    generator, metric = torch.Generator().manual_seed(0), METRICS[name]
    truth = evaluate(*drawn(shares, 200_000, generator), [name])[name]
    for size in sizes:
        covered = 0
        for _ in range(200):
            found = score(*drawn(shares, size, generator), metric=metric)
            variance = example_covariance(found.example_scores.numpy()[:, None]).item()
            covered += abs(found.values[metric.attribute] - truth) <= NORMAL_90 * sqrt(variance)
        assert 0.85 <= covered / 200 <= 0.97, f"{covered / 2} % at {size}"
