"""The searched parameters by their influence on the explored trials."""

from dataclasses import replace

import numpy as np
import optuna
import pytest

from search.verdict.importances import importances
from strategies import FreezingStrategy
from tests.search.verdict.rows import row
from tests.search.verdict.test_judge import regression, squared_errors

BASE = regression(squared_errors(np.random.default_rng(0), truth=[0.3]))


def explored(values, *, sizes=(50, 100), noise=0.0):
    """Return a study whose trials' losses are `values` of freeze depth and log head LR, and noise."""
    rng, rows = np.random.default_rng(0), []
    for size in sizes:
        for number in range(20):
            depth, rate = int(rng.integers(5)), float(rng.uniform(-4, -1))
            strategy = FreezingStrategy(freeze_depth=depth, head_lr=10**rate)
            loss = size / 10 + values(depth, rate) + noise * rng.normal()
            rows.append(row(number, strategy, loss, size=size))
    return replace(BASE, rows=tuple(rows))


def test_what_decides_comes_first_whatever_the_size():
    """A loss that differs by size does not hide it, and the other parameter is not in its range."""
    first, second = importances(explored(lambda depth, _: 0.1 * depth))
    assert (first.name, second.name) == ("freeze_depth", "head_lr")
    assert first.low > second.high
    assert first.share > first.noise
    for one in (first, second):
        assert 0 <= one.low <= one.high <= 1
    assert importances(explored(lambda _, rate: 0.1 * rate))[0].name == "head_lr"


def test_noise_alone_names_none():
    first, second = importances(explored(lambda *_: 0.0, noise=1.0))
    assert first.low <= second.high or first.share <= first.noise


@pytest.mark.parametrize(
    "rows",
    [
        (),
        [row(number, FreezingStrategy(freeze_depth=number), 1.0 + number) for number in range(5)],
        [row(number, FreezingStrategy(freeze_depth=2), 1.0 + number) for number in range(20)],
        [row(number, FreezingStrategy(freeze_depth=number % 5), 1.0) for number in range(20)],
        [row(number, FreezingStrategy(freeze_depth=number % 5), float("inf")) for number in range(20)],
        [row(number, FreezingStrategy(freeze_depth=number % 5), None, state="FAIL") for number in range(20)],
        [row(number, FreezingStrategy(freeze_depth=0, head_lr=number + 1, pretrained=False)) for number in range(20)],
    ],
    ids=["none", "few", "constant", "alike", "infinite", "failed", "from scratch"],
)
def test_trials_that_show_nothing_give_none(rows):
    assert importances(replace(BASE, rows=tuple(rows))) == []


def test_words_and_whole_numbers_are_parameters_too():
    rows = [
        row(
            n, FreezingStrategy(freeze_depth=1, parameters=("all", "norm")[n % 2], unfreeze_epoch=n % 3), n % 2 + n / 99
        )
        for n in range(24)
    ]
    assert importances(replace(BASE, rows=tuple(rows)))[0].name == "parameters"


def test_optunas_log_level_stays():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    importances(explored(lambda depth, _: depth))
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING
