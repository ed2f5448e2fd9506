"""The queue of trials: exact budgets, and one owner a trial."""

import itertools
import sqlite3
from collections import Counter

import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from search.storage.database import open_storage
from search.storage.location import StudyLocation
from search.storage.owner import WorkerLease
from search.storage.rdb import LeaseLost
from search.verdict.judge import judge
from search.verdict.load import read_results
from search.verdict.race import kept
from tests.search.queues import ended, in_process, open_queue, states, work


def test_sizes_are_explored_then_raced_to_the_budget(location, spec):
    """All sizes explore first; then each repeat has so many runs, none twice."""
    with WorkerLease.new().held(location) as owner:
        queue = open_queue(location, spec, owner)
        claims = work(queue, [20, 40])
        assert queue.finished([20, 40])
    judged = [claim.judged for claim in claims]
    assert judged == sorted(judged)
    explored, raced = (Counter() for _ in range(2))
    for claim in claims:
        (raced if claim.judged else explored)[claim.size, claim.repeat] += 1
    assert explored == {(20, 0): 10, (40, 0): 10}
    repeats = range(1, spec.confirm.repeats + 1)
    assert raced == {(size, repeat): kept(repeat, searched=True) for size in (20, 40) for repeat in repeats}
    assert len({(claim.size, claim.strategy, claim.repeat) for claim in claims if claim.judged}) == sum(judged)
    assert judge(read_results(open_storage(location.database), location), 40) is not None


def test_first_trials_are_baselines_then_the_portfolio(location, spec):
    spec = spec.changed(search={"trials": 20})
    with WorkerLease.new().held(location) as owner:
        queue = open_queue(location, spec, owner)
        claims = [claim for claim in work(queue, [20]) if not claim.judged]
    known = read_results(open_storage(location.database), location)
    opening = [*known.baselines, *known.portfolio]
    assert known.portfolio
    assert len(opening) < 20
    assert [claim.strategy for claim in claims[: len(opening)]] == opening
    assert [row.baseline for row in known.explored(20)] == [number < len(known.baselines) for number in range(20)]


def test_one_worker_gives_the_same_trials_after_a_stop(tmp_path, spec):
    params = []
    for name, first in (("a", 1000), ("b", 7), ("c", 9)):
        location = StudyLocation.of(name, out=tmp_path, storage=None)
        location.folder.mkdir()
        for most in (first, 1000):
            with WorkerLease.new().held(location) as owner:
                work(open_queue(location, spec, owner), [20, 40], most=most)
        rows = read_results(open_storage(location.database), location).rows
        params.append([(row.size, row.judged, row.number, row.strategy) for row in rows])
    assert params[0] == params[1] == params[2]


def test_budgets_may_grow_and_finished_trials_stay(location, spec):
    with WorkerLease.new().held(location) as owner:
        work(open_queue(location, spec, owner), [20, 40])
        before = {
            (r.size, r.number): r.strategy
            for r in read_results(open_storage(location.database), location).rows
            if not r.judged
        }
        grown = spec.changed(search={"trials": 12}, task={"sizes": [20, 30, 40]}, confirm={"repeats": 6})
        work(open_queue(location, grown, owner), [20, 30, 40])
    results = read_results(open_storage(location.database), location)
    after = {(row.size, row.number): row.strategy for row in results.rows if not row.judged}
    assert before.items() <= after.items()
    assert Counter(size for size, _ in after) == {20: 12, 30: 12, 40: 12}
    assert results.is_finished([20, 30, 40])
    assert results.spec == grown


def test_finish_raises_lease_lost_for_another_owners_trial(location, spec):
    with WorkerLease.new().held(location) as one, WorkerLease.new().held(location) as other:
        queue = open_queue(location, spec, one)
        claim = queue.claim([20])
        storage = open_storage(location.database)
        storage.set_trial_user_attr(claim.trial._trial_id, "owner", str(other))
        storage.set_trial_state_values(claim.trial._trial_id, TrialState.COMPLETE, [1.0])
        with pytest.raises(LeaseLost):
            queue.finish(claim, ended(value=2.0))
    assert claim.study.trials[0].value == 1.0


def test_finish_raises_lease_lost_after_the_database_was_away(location, spec, monkeypatch):
    writes = RDBStorage.set_trial_state_values
    with WorkerLease.new().held(location) as one, WorkerLease.new().held(location) as other:
        queue = open_queue(location, spec, one, patience=10.0)
        claim = queue.claim([20])

        def away(*arguments):  # and when it is back another has come to the same end
            monkeypatch.setattr(RDBStorage, "set_trial_state_values", writes)
            storage = open_storage(location.database)
            storage.set_trial_user_attr(claim.trial._trial_id, "owner", str(other))
            storage.set_trial_state_values(claim.trial._trial_id, TrialState.COMPLETE, [1.0])
            raise OperationalError("UPDATE", {}, sqlite3.OperationalError("database is locked"))

        monkeypatch.setattr(RDBStorage, "set_trial_state_values", away)
        with pytest.raises(LeaseLost):
            queue.finish(claim, ended(value=2.0))
    assert claim.study.trials[0].value == 1.0


def test_a_suspended_owner_ends_its_trial_or_loses_it(tmp_path, spec):
    ends = []
    for moment in range(100):
        location = StudyLocation.of(f"at-{moment}", out=tmp_path, storage=None)
        location.folder.mkdir()
        with WorkerLease.new().held(location) as gone:
            late = open_queue(location, spec, gone)
            mine = late.claim([20])
        with WorkerLease.new().held(location) as owner:
            queue = open_queue(location, spec, owner)
            moments = itertools.count()

            def wakes(_, late=late, mine=mine, moment=moment, moments=moments):
                if next(moments) == moment:
                    try:
                        late.finish(mine, ended(value=2.0))
                        ends.append(True)
                    except LeaseLost:
                        ends.append(False)

            event.listen(queue.leased.scoped_session, "after_commit", wakes)
            theirs = queue.claim([20])
            if len(ends) == moment:
                break
            trial = queue.storage.get_trial(mine.trial._trial_id)
            if ends[moment]:
                assert (trial.state, trial.value) == (TrialState.COMPLETE, 2.0)
                assert theirs.trial.number == 1
            else:
                assert (trial.state, trial.user_attrs["owner"]) == (TrialState.RUNNING, str(owner))
                assert theirs.trial.number == 0
    assert ends == sorted(ends, reverse=True)
    assert set(ends) == {True, False}


@pytest.mark.parametrize(("reported", "value"), [([3.0, 2.0], 2.0), ([3.0, float("nan")], None)])
def test_the_value_of_a_pruned_trial_is_its_last_report(location, spec, reported, value):
    with WorkerLease.new().held(location) as owner:
        queue = open_queue(location, spec, owner)
        claim = queue.claim([20])
        for epoch, loss in enumerate(reported):
            claim.trial.report(loss, epoch)
        queue.finish(claim, ended(TrialState.PRUNED))
    assert claim.study.trials[0].value == value


def test_confirm_trials_of_former_candidates_do_not_count(location, spec):
    """As the budget grows, what is found later takes the place of others in the race."""

    def seems(number, value, judged):  # of what is tried, the later the better, as it seems
        return 3.0 if judged else 50 - number

    found = []
    with WorkerLease.new().held(location) as owner:
        for trials, most in ((14, 14 + 15), (22, 1000)):  # first it is stopped during the race
            queue = open_queue(location, spec.changed(search={"trials": trials}), owner)
            work(queue, [20], most=most, seems=seems)
            found.append({*read_results(open_storage(location.database), location).candidates(20)})
    former = found[0] - found[1]
    assert former, "some lost their place to later ones"
    results = read_results(open_storage(location.database), location)
    assert any(row.judged and row.strategy in former for row in results.rows)
    assert {row.strategy for row in results.confirmed(20)} == found[1]
    assert results.is_finished([20])
    assert judge(results, 20).failed == ()


@pytest.mark.slow
def test_many_processes_run_exactly_the_budget(location, spec):
    processes = [in_process("work", location, spec) for _ in range(4)]
    assert [process.wait(600) for process in processes] == [0] * 4
    results = read_results(open_storage(location.database), location)
    assert Counter(row.size for row in results.rows if not row.judged) == {20: 10, 40: 10}
    pairs = Counter((row.size, row.strategy, row.repeat) for row in results.rows if row.judged)
    assert set(pairs.values()) == {1}, "no confirm trial is there twice"
    assert states(location).keys() == {"COMPLETE"}
