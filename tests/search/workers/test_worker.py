"""Failures of a study's first trials: held back, then stored or put back into the queue."""

import pytest
from optuna.trial import TrialState

from search.errors import StudyError
from search.study.queue import Failure
from search.workers.worker import MAX_STARTUP_DIVERGED, MAX_STARTUP_FAILURES, StartupFailures
from tests.search.queues import ended


class Queue:
    """A queue that notes where trials end."""

    def __init__(self, *, complete=False):
        self.complete = complete
        self.waiting, self.failed = [], []

    def has_complete(self):
        return self.complete

    def requeue(self, claim):
        self.waiting.append(claim)

    def fail(self, failure):
        self.failed.append(failure.claim)


def failure(number):
    return Failure(claim=number, result=ended(TrialState.FAIL, reason="wrong shape"))


def test_first_trials_that_all_fail_wait_and_end_the_study():
    queue = Queue()
    failures = StartupFailures(queue)
    for number in range(MAX_STARTUP_FAILURES - 1):
        failures.ended(failure(number))
    with pytest.raises(StudyError, match="The first 3 trials all failed, and wait to be run again; the last: wrong"):
        failures.ended(failure(MAX_STARTUP_FAILURES - 1))
    assert sorted(queue.waiting) == [*range(MAX_STARTUP_FAILURES)]
    assert not queue.failed
    assert not failures.failures, "no trial is put back twice"


def test_failures_are_stored_once_a_trial_is_complete():
    queue = Queue()
    failures = StartupFailures(queue)
    failures.ended(failure(0))
    assert not queue.failed
    queue.complete = True
    failures.ended(None)
    assert queue.failed == [0]
    for number in range(1, 3 * MAX_STARTUP_FAILURES):
        failures.ended(failure(number))
    assert queue.failed == [*range(3 * MAX_STARTUP_FAILURES)]


def test_first_trials_that_all_diverge_end_the_study():
    failures = StartupFailures(Queue())
    for _ in range(MAX_STARTUP_DIVERGED - 1):
        failures.ended(None)  # stored as failed or pruned: none is complete
    with pytest.raises(StudyError, match="The first 10 trials all diverged: their metric was never finite"):
        failures.ended(None)


def test_a_diverged_trial_excuses_no_failures():
    failures = StartupFailures(Queue())
    failures.ended(None)
    failures.ended(failure(1))
    failures.ended(failure(2))
    with pytest.raises(StudyError, match="The first 3 trials all failed"):
        failures.ended(failure(3))
