"""Recommendations at sizes that a study left out, against what is best there, replayed."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from search.home import Home
from search.rows import Results, Row
from search.verdict import Verdict, judge_all
from tests.replay.grid import spec_of
from tests.replay.table import Table

TRIALS = 30
CHAINS = 5


def replayed(table: Table, rng: np.random.Generator) -> Results:
    """A study of all the table's sizes: random strategies on one chain, the best of each family on five others."""
    spec = spec_of(table.task)
    spec = spec.model_copy(
        update={
            "search": spec.search.model_copy(update={"trials": TRIALS}),
            "confirm": spec.confirm.model_copy(update={"chains": CHAINS}),
        }
    )
    empty = Results(
        home=Home.of(table.task, out=Path("studies"), storage=None), spec=spec, num_groups=table.num_groups, rows=()
    )
    explores, *confirm = rng.permutation(table.chains)[: CHAINS + 1]
    rows: list[Row] = []
    for place, size in enumerate(table.sizes):
        tried = rng.choice(len(table.strategies), TRIALS, replace=False)
        explored = [_row(table, which, place, explores, number=number) for number, which in enumerate(tried)]
        finalists = replace(empty, rows=tuple(explored)).finalists(size)
        rows += explored
        rows += [
            replace(
                _row(table, tried[finalist.number], place, chain, number=len(rows), tested=True),
                explored=finalist.number,
                chain=order,
            )
            for order, chain in enumerate(confirm, start=1)
            for finalist in finalists
        ]
    return replace(empty, rows=tuple(rows))


def _row(table: Table, which: int, place: int, chain: int, *, number: int, tested: bool = False) -> Row:
    strategy = table.strategies[which]
    outcome = table.outcome[which, place, chain]
    return Row(
        number=number, state="COMPLETE", size=table.sizes[place], chain=0, strategy=strategy,
        family=str(strategy.family(table.num_groups)), value=float(table.value[which, place, chain]), best_epoch=None,
        epochs=None, seconds=float(table.seconds[which, place, chain].sum()), trainable_parameters=None, seed=None,
        curve=(), anchor=False, test_examples=len(outcome),
        test_accuracy=float(outcome.mean()) if tested else None, outcome=outcome if tested else None,
    )  # fmt: skip
