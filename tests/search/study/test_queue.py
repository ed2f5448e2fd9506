"""The queue of trials: exact budgets, and one owner a trial."""

import itertools
import sqlite3
from collections import Counter

import numpy as np
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
from tests.search.queues import ended, in_process, open_queue, states, work


def test_a_size_is_explored_then_confirmed_to_the_budget(location, spec):
    with WorkerLease.new().held(location) as owner:
        queue = open_queue(location, spec, owner)
        claims = work(queue, [20, 40])
        assert queue.finished([20, 40])
    explored = [claim for claim in claims if not claim.judged]
    confirmed = [claim for claim in claims if claim.judged]
    assert Counter(claim.size for claim in explored) == {20: 10, 40: 10}
    assert {claim.repeat for claim in explored} == {0}
    results = read_results(open_storage(location.database), location)
    for size in (20, 40):
        pairs = Counter((claim.strategy, claim.repeat) for claim in confirmed if claim.size == size)
        assert pairs == dict.fromkeys(itertools.product(results.candidates(size), range(1, 6)), 1)
        rows = results.explored(size)
        best = {row.family: row.strategy for row in sorted(rows, key=lambda row: row.value)}
        usual = {row.family: row.strategy for row in sorted(rows, key=lambda row: row.value) if row.baseline}
        assert set(results.candidates(size)) == {*best.values(), *usual.values()}


def test_a_winner_by_chance_runs_beside_its_baseline(location, spec):
    def seems(number, value, judged):  # what the search finds itself looks better than anything, while it explores
        return value if judged or number < len(queue.baselines) else value - 5.0

    spec = spec.changed(search={"trials": 20})
    with WorkerLease.new().held(location) as owner:
        queue = open_queue(location, spec, owner)
        work(queue, [20], seems=seems)
    results = read_results(open_storage(location.database), location)
    assert results.is_finished([20])
    sources = {row.strategy: row for row in results.confirmed(20)}
    found = {row.family: row for row in sources.values() if not row.baseline}
    usual = {row.family: row for row in sources.values() if row.baseline}
    worse = {family for family in found.keys() & usual.keys() if found[family].value < usual[family].value}
    assert worse, "judged, some baselines are better"
    judged = {candidate.family: candidate for candidate in judge(results, 20).candidates}
    assert all(judged[family].strategy == usual[family].strategy for family in worse)


def test_confirm_trials_depend_on_no_worker_count_or_stop(tmp_path, spec):
    def noise(place):
        return 0.035 * np.random.default_rng(place).normal()

    spec, run = spec.changed(confirm={"repeats": 8}), []
    for name, workers, most in (("whole", 1, 1000), ("stopped", 3, 23)):
        location = StudyLocation.of(name, out=tmp_path, storage=None)
        location.folder.mkdir()
        claims = [None]
        while claims:
            with WorkerLease.new().held(location) as owner:
                queues = [open_queue(location, spec, owner) for _ in range(workers)]
                turns = itertools.islice(itertools.cycle(queues), most)
                claims = list(itertools.takewhile(bool, (work(queue, [20], most=1, noise=noise) for queue in turns)))
        results = read_results(open_storage(location.database), location)
        assert results.is_finished([20])
        assert len(results.confirmed(20)) <= 8 * len(results.candidates(20))
        run.append([(row.source_trial, row.repeat) for row in results.confirmed(20)])
    assert run[0] == run[1]
    repeats = Counter(explored for explored, _ in run[0])
    assert min(repeats.values()) < 8 < max(repeats.values())


def test_the_first_trials_are_the_baselines(location, spec):
    with WorkerLease.new().held(location) as owner:
        queue = open_queue(location, spec, owner)
        claims = [claim for claim in work(queue, [20]) if not claim.judged]
    assert [claim.strategy for claim in claims[: len(queue.baselines)]] == queue.baselines


def test_a_larger_size_starts_with_a_smaller_ones_candidates(location, spec):
    with WorkerLease.new().held(location) as owner:
        queue = open_queue(location, spec.changed(search={"trials": 14}), owner)
        work(queue, [20, 40])
    results = read_results(open_storage(location.database), location)
    learned = [row for row in results.rows if row.warm_started_from is not None]
    assert {(row.size, row.warm_started_from) for row in learned} == {(40, 20)}
    assert {row.strategy for row in learned} <= {*results.candidates(20)}
    assert [row.number for row in learned] == list(range(len(queue.baselines), len(queue.baselines) + len(learned)))
    others = [row.strategy for row in results.explored(40) if row.number < len(queue.baselines)]
    assert not {row.strategy for row in learned} & set(others), "what was tried already is not tried again"


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
            if r.source_trial is None
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
    def seems(number, value, judged):  # of what is tried, the later the better, as it seems
        return 3.0 if judged else 5 - number / 100

    found = []
    with WorkerLease.new().held(location) as owner:
        for trials, most in ((10, 10 + 18), (14, 1000)):  # first it is stopped during the race
            queue = open_queue(location, spec.changed(search={"trials": trials}), owner)
            work(queue, [20], most=most, seems=seems)
            found.append({*read_results(open_storage(location.database), location).candidates(20)})
    former = found[0] - found[1]
    assert former, "one that the search had found lost its place to a later one"
    results = read_results(open_storage(location.database), location)
    assert {row.state for row in results.rows if row.judged and row.strategy in former} == {"COMPLETE", "WAITING"}
    assert {row.strategy for row in results.confirmed(20)} == found[1]
    assert results.is_finished([20])
    assert judge(results, 20).failed == ()


@pytest.mark.slow
def test_many_processes_run_exactly_the_budget(location, spec):
    processes = [in_process("work", location, spec) for _ in range(4)]
    assert [process.wait(600) for process in processes] == [0] * 4
    results = read_results(open_storage(location.database), location)
    assert Counter(row.size for row in results.rows if not row.judged) == {20: 10, 40: 10}
    pairs = Counter((row.size, row.source_trial, row.repeat) for row in results.rows if row.judged)
    assert set(pairs.values()) == {1}, "no confirm trial is there twice"
    assert states(location).keys() == {"COMPLETE"}
