"""Who goes to the final, and which confirm trials that takes, from rows alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search.storage.location import Home
from search.verdict.rows import Results, Row
from strategies import FreezingStrategy

CHAINS = 8


def row(number, strategy, value, *, anchor=False, state="COMPLETE"):
    return Row(
        number=number, state=state, size=20, chain=0, strategy=strategy, family=str(strategy.family(4)), value=value,
        best_epoch=0, epochs=1, seconds=1.0, trainable_parameters=1, seed=0, curve=(), anchor=anchor,
    )  # fmt: skip


PROBE, OTHER_PROBE = (FreezingStrategy(freeze_depth=4, head_lr=rate) for rate in (1e-3, 1e-2))
FULL, OTHER_FULL, THIRD_FULL = (FreezingStrategy(freeze_depth=0, head_lr=rate) for rate in (1e-3, 1e-2, 1e-1))
ROWS = (
    row(0, PROBE, 1.0, anchor=True),
    row(1, FULL, 0.9, anchor=True),
    row(2, THIRD_FULL, 0.8, anchor=True),
    row(3, OTHER_FULL, 0.7),
    row(4, OTHER_PROBE, 1.1),
)


def results_of(spec, rows=ROWS, **confirm):
    spec = spec.changed(search={"trials": len(rows)}, confirm={"chains": CHAINS} | confirm)
    return Results(
        home=Home.of("tiny", out=Path("studies"), storage=None), spec=spec, num_groups=4, rows=tuple(rows)
    )  # fmt: skip


def numbers(families):
    return [[one.number for one in family] for family in families]


def run(results, value, *, order=None, most=1, steps=1000):
    """Run what is wanted, so many at a time in some order, until nothing is; `value` of a number and a chain."""
    order = order or np.random.default_rng(0)
    explored = {one.number: one for one in results.explored(20)}
    for _ in range(steps):
        missing = sorted(results.wanted(20) - {(one.explored, one.chain) for one in results.confirmed(20)})
        if not missing:
            break
        for number, chain in order.permutation(missing)[:most].tolist():
            again = replace(
                explored[number], number=len(results.rows), explored=number, chain=chain, anchor=False,
                value=value(number, chain), test_accuracy=0.5 + 0.01 * number + 0.03 * np.sin(7 * number * chain),
            )  # fmt: skip
            results = replace(results, rows=(*results.rows, again))
    return results


def test_a_family_sends_its_best_trial_and_its_best_anchor_where_that_is_another(spec):
    assert numbers(results_of(spec).entrants(20)) == [[0], [3, 2]]


def test_an_anchor_that_was_sampled_again_is_no_other(spec):
    again = row(5, THIRD_FULL, 0.6)
    assert numbers(results_of(spec, [*ROWS, again]).entrants(20)) == [[0], [5]]


def test_who_was_pruned_or_failed_sends_nobody(spec):
    rows = [replace(one, state="PRUNED" if one.number == 3 else "FAIL") for one in ROWS if one.number in (2, 3)]
    assert numbers(results_of(spec, [*ROWS[:2], *rows, ROWS[4]]).entrants(20)) == [[0], [1]]


def test_before_the_play_off_has_ended_everybody_runs_its_chains_and_nothing_else(spec):
    results = results_of(spec)
    assert results.wanted(20) == {(number, chain) for number in (0, 2, 3) for chain in (1, 2)}
    assert numbers([results.finalists(20)]) == [[0, 3]]


@pytest.mark.parametrize("through", [2, 3])
@pytest.mark.parametrize("chains", [1, 2, 5, CHAINS])
def test_who_wins_goes_on_alone_and_any_order_of_the_runs_comes_to_the_same(spec, through, chains):
    def value(number, chain):
        return 0.5 if number == through else 0.9 - 0.1 * chain

    found = []
    for seed, most in ((0, 1), (1, 3), (2, 100)):
        results = run(results_of(spec, chains=chains), value, order=np.random.default_rng(seed), most=most)
        assert numbers([results.finalists(20)]) == [[0, through]]
        assert results.is_confirmed(20)
        found.append({(one.explored, one.chain) for one in results.confirmed(20)})
    assert found[0] == found[1] == found[2]
    (out,) = {2, 3} - {through}
    assert {chain for number, chain in found[0] if number == out} == {*range(1, min(chains, 2) + 1)}
    assert {chain for number, chain in found[0] if number == through} >= {*range(1, min(chains, 5) + 1)}


@pytest.mark.parametrize("state", ["FAIL", "PRUNED"])
def test_a_run_that_failed_loses_the_play_off(spec, state):
    results = results_of(spec)
    for number in (2, 3):
        failed = run(results, lambda number, chain: 1.0)
        rows = [
            replace(one, state=state, value=None if state == "FAIL" else -9.0, test_accuracy=None)
            if (one.explored, one.chain) == (number, 2)
            else one
            for one in failed.rows
        ]
        assert numbers([replace(failed, rows=tuple(rows)).finalists(20)]) == [[0, 5 - number]]


def test_the_most_that_is_to_run_is_never_less_than_what_has_run(spec):
    results = results_of(spec)
    empty, trials = replace(results, rows=()), results.spec.search.trials
    assert empty.most_confirms(20, families=2) == 2 * (CHAINS + 2)
    assert empty.most_confirms(20, families=trials - 1) == (trials - 1) * CHAINS + 2, "so many trials there are"
    assert empty.most_confirms(20, families=trials + 1) == trials * CHAINS
    assert results.most_confirms(20, families=6) == 2 * CHAINS + 2
    half = run(results, lambda number, chain: float(number))
    grown = results_of(spec, [*ROWS, row(5, FreezingStrategy(freeze_depth=0, head_lr=0.5), 0.1)])
    grown = replace(grown, rows=(*grown.rows, *(one for one in half.rows if one.confirms)))  # with a former finalist
    while not grown.is_confirmed(20):
        assert len(grown.confirmed(20)) <= grown.most_confirms(20, families=6)
        grown = run(grown, lambda number, chain: 1.0 - number, steps=1)
    assert len(grown.confirmed(20)) == grown.most_confirms(20, families=6)


def test_where_more_is_better_more_wins(spec):
    results = results_of(spec.changed(task={"metric": "val_accuracy"}))
    assert numbers(results.entrants(20)) == [[4, 0], [1]]
    assert numbers([run(results, lambda number, chain: float(number)).finalists(20)]) == [[4, 1]]
    assert numbers([run(results, lambda number, chain: -float(number)).finalists(20)]) == [[0, 1]]


def test_without_confirming_the_best_of_the_search_stand(spec):
    results = results_of(spec, chains=0)
    assert results.wanted(20) == set()
    assert numbers([results.finalists(20)]) == [[0, 3]]
