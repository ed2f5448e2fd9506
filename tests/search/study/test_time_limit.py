"""The time limit of a run, on a clock of its own: trials train nothing and take seconds that are given."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.errors import SpecError, StudyError
from search.spec.study_spec import StudySpec
from search.storage.database import open_storage
from search.storage.owner import WorkerLease
from search.study.create import store_plan
from search.study.recovery import requeue_dead
from search.study.result import TrialResult
from search.study.time_limit import Limit, TimeLimit, completed, left_out, seconds_in, spelled
from search.verdict.judge import judge_all
from search.verdict.load import read_results
from search.verdict.results import Results
from tests.search.queues import GROUPS, TrialState, open_queue

SIZES = [20, 40]


@pytest.fixture
def spec(spec):
    """Leave two families, so that few trials make a study."""
    space = {"freeze_depth": [0, 4], "unfreeze_epoch": 0, "epochs_per_group": 0, "pretrained": True}
    return spec.changed(space=space, search={"trials": 12}, confirm={"repeats": 8})


class Clock:
    """Workers that run a study's trials, each for some seconds, while a limit plans its budgets."""

    def __init__(self, location, spec, *, workers, seconds, overhead=0.0):
        self.location, self.spec, self.workers = location, spec, workers
        self.seconds, self.overhead = seconds, overhead
        self.now = 0.0

    def run(self, limit=None, *, start=0.0):
        """Run to the end and return the results; `start` seconds pass before the first trial."""
        self.began = self.now
        with WorkerLease.new().held(self.location) as owner:
            queue = open_queue(self.location, self.spec, owner)
            self.limit = limit and TimeLimit(
                Limit(seconds=seconds_in(limit), began=self.now, text=limit), self.spec, SIZES, workers=self.workers
            )
            store_plan(queue.storage, self.location, None)
            self.poll(queue)
            self.now += start
            running = []
            while True:
                while len(running) < self.workers and (claim := queue.claim(SIZES)) is not None:
                    if claim.study.trials[claim.trial.number].last_step is None:  # else it has come back
                        claim.trial.report(0.5, 0)
                    queue.note(claim, {"size": claim.size, "repeat": claim.repeat, "family": "f"})
                    takes = self.seconds(claim)
                    running.append((self.now + takes + self.overhead, takes, claim))
                    self.poll(queue)
                if not running:
                    break
                running.sort(key=lambda one: one[0])
                end, takes, claim = running.pop(0)
                while self.now + 4.0 < end:  # a run looks once a second
                    self.now += 4.0
                    self.poll(queue)
                self.now = end
                noise = np.random.default_rng([claim.size, claim.repeat, claim.trial.number]).normal()
                score = min(max(0.7 + 0.05 * noise, 0.0), 1.0)
                scores = {"test_accuracy": score, "val_accuracy": score} if claim.judged else {}
                result = TrialResult(
                    state=TrialState.COMPLETE, value=0.5 + 0.05 * noise, epochs=4, seconds=takes, scores=scores
                )
                queue.finish(claim, result)
                self.poll(queue)
        results = read_results(open_storage(self.location.database), self.location)
        if limit is None:
            return results
        results = completed(results, SIZES)
        store_plan(open_storage(self.location.database), self.location, budget_of(results))
        return read_results(open_storage(self.location.database), self.location)

    def poll(self, queue):
        if self.limit is None:
            return
        results = read_results(queue.storage, self.location).planned(self.spec)
        if (plan := self.limit.plan(results, self.spec, self.now)) is not None:
            store_plan(queue.storage, self.location, plan)
        self.limit.check()

    @property
    def took(self):
        return self.now - self.began


def budget_of(results):
    return results.spec.search.trials, results.spec.confirm.repeats


def requeue(location):
    """Return running trials to the queue, as a run that ends by an error does."""
    requeue_dead(open_storage(location.database), location)


def by_family(claim):
    """Linear probing takes a fifth of the time of others."""
    return 2.0 if claim.strategy.freeze_depth == GROUPS else 10.0


def jittered(claim):
    return by_family(claim) * float(np.random.default_rng(claim.trial.number).uniform(0.6, 1.6))


@pytest.mark.parametrize(
    ("workers", "seconds", "overhead", "limit"),
    [
        (1, by_family, 0.0, "11m"),
        (1, jittered, 1.5, "13m"),
        (3, jittered, 0.5, "5m"),
        (8, by_family, 0.0, "2m"),
    ],
)
def test_limited_run_ends_in_time_with_verdicts(location, spec, workers, seconds, overhead, limit):
    clock = Clock(location, spec, workers=workers, seconds=seconds, overhead=overhead)
    results = clock.run(limit, start=10.0)
    print(f"asked {limit}, took {clock.took:.0f} s: {budget_of(results)} of (12, 8)")
    assert sorted(judge_all(results)) == SIZES
    assert 0.8 * seconds_in(limit) <= clock.took <= 1.1 * seconds_in(limit)
    assert budget_of(results) < (12, 8)


def test_limit_too_short_is_refused_with_one_that_suffices(location, tiny):
    """After a few trials; the time that the line names gives verdicts."""
    spec = StudySpec.from_file(tiny).changed(search={"trials": 24})
    clock = Clock(location, spec, workers=2, seconds=by_family)
    with pytest.raises(StudyError, match=r"^--time-limit 60s is too short for a verdict at each size") as refused:
        clock.run("60s", start=2.0)
    assert clock.took < 30.0
    [enough] = re.findall(r"about (\w+) here", str(refused.value))
    assert seconds_in(enough) > 66.0
    requeue(location)
    results = clock.run(enough)
    print(f"asked {enough}, took {clock.took:.0f} s: {budget_of(results)} of (24, 5)")
    assert sorted(judge_all(results)) == SIZES
    assert clock.took <= 1.1 * seconds_in(enough)


def test_resumed_study_is_refused_before_anything_is_trained(location, spec):
    clock = Clock(location, spec, workers=2, seconds=by_family)
    first = clock.run("3m")
    more = spec.changed(task={"sizes": [20, 40, 60]})
    limit = TimeLimit(Limit.of("20s", began=0.0), more, [20, 40, 60], workers=2)
    limit.plan(first.planned(more), more, 1.0)
    with pytest.raises(StudyError, match="--time-limit 20s is too short"):
        limit.check()


def test_next_limit_runs_what_the_last_one_left_out(location, spec):
    """It repeats no trial, and nothing is left after the whole budget."""
    clock = Clock(location, spec, workers=2, seconds=by_family)
    first = clock.run("3m")
    second = clock.run("15m")
    assert budget_of(first) < budget_of(second) == (12, 8)
    ended = [
        {(row.size, row.judged, row.number): row.value for row in one.rows if row.is_finished}
        for one in (first, second)
    ]
    assert ended[0].items() <= ended[1].items()
    assert clock.run("3m").is_finished(SIZES)
    assert clock.took == 0.0


def test_run_without_a_limit_runs_what_was_left_out(location, spec):
    clock = Clock(location, spec, workers=2, seconds=by_family)
    assert budget_of(clock.run("3m")) < (12, 8)
    results = clock.run()
    assert results.is_finished(SIZES)
    assert budget_of(results) == (12, 8)


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200.0), ("90m", 5400.0), ("3600s", 3600.0), ("1h30m", 5400.0), ("1h0m5s", 3605.0)]
)
def test_seconds_in_reads_hours_minutes_and_seconds(text, seconds):
    assert seconds_in(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2 h", "0s", "-2h", "2h90", "m5", "1.5h", "two hours", "2H"])
def test_seconds_in_refuses_anything_else(text):
    with pytest.raises(SpecError, match="is no time; allowed: hours, minutes or seconds, as 2h, 90m or 3600s"):
        seconds_in(text)


@given(st.floats(0.0, 1e6))
def test_spelled_seconds_are_no_fewer(seconds):
    assert seconds <= seconds_in(spelled(seconds)) <= max(seconds * 1.02 + 60, seconds + 2)


def test_left_out_names_both_budgets(spec):
    limit = Limit.of("2h", began=0.0)
    results = Results(location=None, spec=spec.within((6, 5)), num_groups=GROUPS, rows=())
    assert left_out(results, spec, limit, 7000.0) == (
        "The time limit left room for 6 of 12 exploring trials a size, and 5 of 8 repeats, in 117m of 2h. To run the "
        "rest: the same command with more time, or without the limit."
    )
