"""Candidates of the confirm race, and the trials that they need, from rows alone."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.verdict.confirm import best_of_each_family, candidates, ended, needed_confirm_trials
from search.verdict.metric import METRICS
from strategies import FreezingStrategy
from tests.search.verdict.rows import row

LOSS, ACCURACY = METRICS["loss"], METRICS["accuracy"]
PROBE, OTHER_PROBE = (FreezingStrategy(freeze_depth=4, head_lr=rate) for rate in (1e-3, 1e-2))
FULL, OTHER_FULL, THIRD_FULL = (FreezingStrategy(freeze_depth=0, head_lr=rate) for rate in (1e-3, 1e-2, 1e-1))
ROWS = (
    row(0, PROBE, 1.0, baseline=True),
    row(1, FULL, 0.9, baseline=True),
    row(2, THIRD_FULL, 0.8, baseline=True),
    row(3, OTHER_FULL, 0.7),
    row(4, OTHER_PROBE, 1.1),
)


def test_candidates_are_the_best_trials_and_baselines():
    assert candidates(ROWS, metric=LOSS) == [PROBE, OTHER_FULL, THIRD_FULL]
    assert candidates(ROWS, metric=ACCURACY) == [OTHER_PROBE, FULL, PROBE]


def test_candidates_name_a_baseline_sampled_again_once():
    assert candidates([*ROWS, row(5, THIRD_FULL, 0.6)], metric=LOSS) == [PROBE, THIRD_FULL]


def test_candidates_are_complete_trials():
    rows = [replace(one, state={2: "FAIL", 3: "PRUNED"}.get(one.number, one.state)) for one in ROWS]
    assert candidates(rows, metric=LOSS) == [PROBE, FULL]
    assert candidates([], metric=LOSS) == []


drawn_rows = st.lists(
    st.tuples(
        st.sampled_from([PROBE, OTHER_PROBE, FULL, OTHER_FULL, THIRD_FULL]), st.integers(0, 5), st.booleans(),
        st.sampled_from(["COMPLETE", "COMPLETE", "PRUNED", "FAIL"]),
    )
)  # fmt: skip


@given(drawn_rows, st.sampled_from([LOSS, ACCURACY]))
def test_best_of_each_family_is_never_beaten(drawn, metric):
    rows = [row(n, one, float(v), baseline=b, state=s) for n, (one, v, b, s) in enumerate(drawn)]
    best = {one.family: one for one in best_of_each_family(rows, metric=metric)}
    complete = [one for one in rows if one.state == "COMPLETE"]
    assert best.keys() == {one.family for one in complete}
    assert all(metric.sign * one.value <= metric.sign * best[one.family].value for one in complete)
    chosen = candidates(rows, metric=metric)
    assert len(chosen) == len(set(chosen)) <= 2 * len(best)
    assert {one.strategy for one in best.values()} <= {*chosen}
    assert {one.family for one in complete if one.baseline} <= {
        one.family for one in complete if one.baseline and one.strategy in chosen
    }


def test_ended_trials_are_judged_and_finished():
    judged = [row(n, PROBE, repeat=n, judged=True, state=s) for n, s in enumerate(("RUNNING", "FAIL", "COMPLETE"), 1)]
    assert ended([*ROWS, *judged]) == {(PROBE, 2): judged[1], (PROBE, 3): judged[2]}


@pytest.mark.parametrize("repeats", [0, 1, 8])
def test_every_candidate_needs_the_first_repeats(spec, repeats):
    spec = spec.changed(confirm={"repeats": repeats})
    needed = needed_confirm_trials([PROBE, FULL], [], spec=spec, metric=LOSS)
    assert needed == {(one, repeat) for one in (PROBE, FULL) for repeat in range(1, min(repeats, 5) + 1)}


@pytest.mark.parametrize(("metric", "near"), [(LOSS, (PROBE, OTHER_PROBE)), (ACCURACY, (FULL, OTHER_FULL))])
def test_a_candidate_far_behind_needs_no_more(spec, metric, near):
    spec = spec.changed(confirm={"repeats": 8})
    rows = [
        row(0, one, judged=True, repeat=repeat, scores={metric.attribute: score + 0.03 * np.sin(7 * place * repeat)})
        for place, (one, score) in enumerate([(PROBE, 0.2), (OTHER_PROBE, 0.2), (FULL, 0.9), (OTHER_FULL, 0.9)])
        for repeat in range(1, 6)
    ]
    needed = needed_confirm_trials([PROBE, OTHER_PROBE, FULL, OTHER_FULL], rows, spec=spec, metric=metric)
    assert {one for one, repeat in needed if repeat > 5} == {*near}
