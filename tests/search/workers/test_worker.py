"""What a worker does around its trials."""

import pytest

from search.errors import StudyError
from search.study.queue import Failure
from search.workers.worker import FAILURES, FRUITLESS, StartupFailures


class Queue:
    """Where trials end."""

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
    return Failure(claim=number, reason="no luck", attributes={})


def test_first_trials_that_all_fail_are_put_back_and_end_the_study():
    queue = Queue()
    first = StartupFailures(queue)
    for number in range(FAILURES - 1):
        first.ended(failure(number))
    with pytest.raises(StudyError, match="The first 3 trials all failed, and wait to be run again; the last: no luck"):
        first.ended(failure(FAILURES - 1))
    assert sorted(queue.waiting) == [*range(FAILURES)]
    assert not queue.failed
    assert not first.failures, "nobody puts them back twice"


def test_once_a_trial_is_complete_a_failure_is_the_trial_s():
    queue = Queue()
    first = StartupFailures(queue)
    first.ended(failure(0))
    assert not queue.failed
    queue.complete = True
    first.ended(None)
    assert queue.failed == [0]
    for number in range(1, 3 * FAILURES):
        first.ended(failure(number))
    assert queue.failed == [*range(3 * FAILURES)]


def test_first_trials_that_all_diverge_end_the_study():
    first = StartupFailures(Queue())
    for _ in range(FRUITLESS - 1):
        first.ended(None)  # stored as failed or pruned: none is complete
    with pytest.raises(StudyError, match="The first 10 trials all diverged: their metric was never finite"):
        first.ended(None)


def test_one_that_diverges_excuses_no_failures():
    first = StartupFailures(Queue())
    first.ended(None)
    first.ended(failure(1))
    first.ended(failure(2))
    with pytest.raises(StudyError, match="The first 3 trials all failed"):
        first.ended(failure(3))
