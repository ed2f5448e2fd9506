"""Trials of dead processes are requeued; a trial that always kills its process fails."""

import signal
from collections import Counter

import optuna
import pytest
from optuna.trial import TrialState

from search.errors import StudyError
from search.storage.database import open_storage
from search.storage.location import StudyLocation
from search.storage.owner import WorkerLease
from search.study.recovery import MAX_DEATHS, deaths, requeue_dead
from search.verdict.load import load_results, read_results
from search.verdict.race import kept
from search.workers.worker import joined_study
from tests.search.queues import GROUPS, ended, in_process, open_queue, states, work

JUDGED = sum(kept(repeat, searched=True) for repeat in range(1, 6))
"""Confirm trials of a size with five repeats."""


def die_in_a_trial(location, spec):
    assert in_process("die", location, spec).wait(300) == -signal.SIGKILL


def test_a_killed_processs_trial_is_requeued_as_itself(location, spec):
    with WorkerLease.new().held(location) as owner:
        queue = open_queue(location, spec, owner)
        work(queue, [20], most=9)
        die_in_a_trial(location, spec)
        lost = optuna.load_study(study_name="tiny/n=20", storage=location.database.url).trials[9]
        assert lost.state == TrialState.RUNNING
        (claim, *_) = work(queue, [20], most=1)
        assert claim.trial.number == 9
        assert claim.trial.params == lost.params
        work(queue, [20])
    assert states(location) == {"COMPLETE": 10 + JUDGED}


def test_requeue_dead_needs_only_storage_and_location(location, spec):
    with WorkerLease.new().held(location) as owner:
        open_queue(location, spec, owner).claim([20])
    requeue_dead(open_storage(location.database), location)
    assert states(location) == {"WAITING": 1}


def test_a_trial_whose_process_always_dies_fails_with_a_reason(location, spec):
    for _ in range(MAX_DEATHS):
        die_in_a_trial(location, spec)
    with WorkerLease.new().held(location) as owner:
        work(open_queue(location, spec, owner), [20])
    first = read_results(open_storage(location.database), location).explored(20)[0]
    assert (first.state, first.reason) == ("FAIL", "its process died 3 times")
    assert len(read_results(open_storage(location.database), location).explored(20)) == 10


def test_deaths_with_progress_between_do_not_fail_a_trial(location, spec):
    for _ in range(MAX_DEATHS + 2):
        assert in_process("advance", location, spec).wait(300) == -signal.SIGKILL
    with WorkerLease.new().held(location) as owner:
        work(open_queue(location, spec, owner), [20], most=1)
    first = optuna.load_study(study_name="tiny/n=20", storage=location.database.url).trials[0]
    assert first.state == TrialState.COMPLETE
    assert [epoch for _, epoch in first.user_attrs["died"]] == [*range(MAX_DEATHS + 2)]


@pytest.mark.parametrize("stored", [7, "x", [1], [["a"]], [["a", "b"]], None])
def test_deaths_ignores_what_frostline_did_not_store(location, spec, stored):
    with WorkerLease.new().held(location) as owner:
        trial = open_queue(location, spec, owner).claim([20]).trial
        trial.set_user_attr("died", stored)
        assert deaths(trial.storage.get_trial(trial._trial_id), "a") == [("a", -1)]


def test_a_trial_ended_during_recovery_stays_complete(location, spec, monkeypatch):
    with WorkerLease.new().held(location) as other, WorkerLease.new().held(location) as mine:
        theirs, queue = open_queue(location, spec, other), open_queue(location, spec, mine)
        claim = theirs.claim([20])

        def ends_just_now(owner, location):
            if owner == other and claim.study.trials[0].state == TrialState.RUNNING:
                theirs.finish(claim, ended(value=1.0))
            return owner == other

        monkeypatch.setattr(WorkerLease, "has_exited", ends_just_now)
        assert queue.claim([20]).trial.number == 1
    assert claim.study.trials[0].state == TrialState.COMPLETE


def test_recovery_stops_if_all_first_trials_kill_their_process(location, spec):
    # Nine deaths: three of each of the first three trials; the third is not failed but waits.
    for _ in range(3 * MAX_DEATHS):
        die_in_a_trial(location, spec)
    with WorkerLease.new().held(location) as owner:
        queue = open_queue(location, spec, owner)
        with pytest.raises(StudyError, match="No trial is complete, and 3 killed their process; trial 2: its process"):
            queue.claim([20])
        assert states(location) == {"FAIL": 2, "WAITING": 1}
        assert queue.claim([20]).trial.number == 2


def test_trials_of_stopped_runs_are_requeued_every_time(tmp_path, database, spec):
    # Each time the whole run ends, so nothing speaks against the trial.
    location = StudyLocation.of("tiny", out=tmp_path / "out", storage=database)
    for _ in range(MAX_DEATHS + 1):
        with (
            WorkerLease.new().held(location) as run,
            joined_study(location, spec, parent=run.token, num_groups=GROUPS) as queue,
        ):
            assert queue.claim([20]).trial.number == 0
    with joined_study(location, spec, num_groups=GROUPS) as queue:
        work(queue, [20])
    assert Counter(row.state for row in load_results(location).rows) == {"COMPLETE": 10 + JUDGED}


def test_a_living_processs_trial_is_not_requeued(location, spec):
    with WorkerLease.new().held(location) as one, WorkerLease.new().held(location) as other:
        mine = open_queue(location, spec, one).claim([20])
        theirs = open_queue(location, spec, other).claim([20])
        assert (mine.trial.number, theirs.trial.number) == (0, 1)
    # Both have ended now, without finishing.
    with WorkerLease.new().held(location) as third:
        again = open_queue(location, spec, third).claim([20])
        assert again.trial.number == 0


def test_requeue_dead_knows_an_owner_that_ended(location, spec):
    with WorkerLease.new().held(location) as one, WorkerLease.new().held(location) as other:
        first, second = (open_queue(location, spec, owner).claim([20]) for owner in (one, other))
        storage = open_storage(location.database)
        requeue_dead(storage, location, ended=one)
        trials = first.study.trials
        assert [trial.state for trial in trials] == [TrialState.WAITING, TrialState.RUNNING]
        assert trials[0].user_attrs["died"] == [[str(one), -1]]
        requeue_dead(storage, location, ended=other, counts_as_death=False)
        assert second.study.trials[1].state == TrialState.WAITING
        assert not second.study.trials[1].user_attrs["died"]
