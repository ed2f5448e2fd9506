"""The queue of trials: exact budgets, one owner a trial, nothing lost when a process dies."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from search.errors import StudyError
from search.home import Home, Owner
from search.reaper import ATTEMPTS
from search.results import load_results, read_results
from search.spec import StudySpec
from search.storage import open_storage
from search.study import TrialQueue, check_stored
from search.work import joined

GROUPS = 4


@pytest.fixture
def home(tmp_path):
    home = Home.of("tiny", out=tmp_path, storage=None)
    home.folder.mkdir()
    return home


@pytest.fixture
def spec(tiny):
    return StudySpec.from_file(tiny)


def open_queue(home, spec, owner=None):
    return TrialQueue(open_storage(home.url, create=True), home, spec, num_groups=GROUPS, owner=owner)


def work(queue, sizes, *, most=1000, luck=lambda place: 0.0):
    """Run claimed trials on a torch-free objective; returns what was claimed."""
    claims = []
    while len(claims) < most and (claim := queue.claim(sizes)) is not None:
        value = abs(claim.strategy.freeze_depth - 1) + claim.strategy.head_lr + claim.size / 1000
        if claim.study.trials[claim.trial.number].last_step is None:  # else it has come back
            claim.trial.report(value, 0)
        attrs = {"size": claim.size, "chain": claim.chain, "family": str(claim.strategy.family(GROUPS)), "seconds": 1.0}
        if claim.confirms:
            explored = claim.study.trials[claim.trial.number].user_attrs["explored"]
            attrs["test_accuracy"] = 0.8 - value / 10 + luck((claim.size, explored, claim.chain))
        queue.finish(claim, TrialState.COMPLETE, attrs, value=value)
        claims.append(claim)
    return claims


def states(home):
    return Counter(row.state for row in read_results(open_storage(home.url), home).rows)


def test_every_size_is_explored_to_the_budget_then_confirmed_on_fresh_chains(home, spec):
    with Owner.new().present(home) as owner:
        queue = open_queue(home, spec, owner)
        claims = work(queue, [20, 40])
        assert queue.finished([20, 40])
    explored = [claim for claim in claims if not claim.confirms]
    confirmed = [claim for claim in claims if claim.confirms]
    assert Counter(claim.size for claim in explored) == {20: 10, 40: 10}
    assert {claim.chain for claim in explored} == {0}
    for size in (20, 40):
        families = {claim.strategy.family(GROUPS) for claim in explored if claim.size == size}
        pairs = Counter((claim.strategy.family(GROUPS), claim.chain) for claim in confirmed if claim.size == size)
        assert pairs == Counter(itertools.product(families, range(1, 6)))
    results = read_results(open_storage(home.url), home)
    for size in (20, 40):
        for row in results.finalists(size):
            rivals = [other.value for other in results.explored(size) if other.family == row.family]
            assert row.value == min(rivals), "the finalist is its family's best"


def test_chains_go_where_they_can_still_decide_however_many_work_and_however_often_it_stops(tmp_path, spec):
    def luck(place):
        return 0.035 * np.random.default_rng(place).normal()

    spec, run = spec.changed(confirm={"chains": 8}), []
    for name, workers, most in (("whole", 1, 1000), ("stopped", 3, 23)):
        home = Home.of(name, out=tmp_path, storage=None)
        home.folder.mkdir()
        claims = [None]
        while claims:
            with Owner.new().present(home) as owner:
                queues = [open_queue(home, spec, owner) for _ in range(workers)]
                turns = itertools.islice(itertools.cycle(queues), most)
                claims = list(itertools.takewhile(bool, (work(queue, [20], most=1, luck=luck) for queue in turns)))
        results = read_results(open_storage(home.url), home)
        assert results.is_finished([20])
        assert len(results.confirmed(20)) <= 8 * len(results.finalists(20))
        run.append([(row.explored, row.chain) for row in results.confirmed(20)])
    assert run[0] == run[1]
    chains = Counter(explored for explored, _ in run[0])
    assert min(chains.values()) < 8 < max(chains.values())


def test_the_first_trials_are_the_anchors(home, spec):
    with Owner.new().present(home) as owner:
        queue = open_queue(home, spec, owner)
        claims = [claim for claim in work(queue, [20]) if not claim.confirms]
    assert [claim.strategy for claim in claims[: len(queue.anchors)]] == queue.anchors


def test_a_larger_size_begins_with_what_a_smaller_one_found(home, spec):
    with Owner.new().present(home) as owner:
        queue = open_queue(home, spec.changed(search={"trials": 14}), owner)
        work(queue, [20, 40])
    results = read_results(open_storage(home.url), home)
    learned = [row for row in results.rows if row.learned_at is not None]
    assert {(row.size, row.learned_at) for row in learned} == {(40, 20)}
    assert {row.strategy for row in learned} <= {row.strategy for row in results.finalists(20)}
    assert [row.number for row in learned] == list(range(len(queue.anchors), len(queue.anchors) + len(learned)))
    others = [row.strategy for row in results.explored(40) if row.number < len(queue.anchors)]
    assert not {row.strategy for row in learned} & set(others), "what was tried already is not tried again"


def test_one_worker_gives_the_same_trials_every_time_and_stopped_halfway_too(tmp_path, spec):
    params = []
    for name, first in (("a", 1000), ("b", 7), ("c", 9)):
        home = Home.of(name, out=tmp_path, storage=None)
        home.folder.mkdir()
        for most in (first, 1000):
            with Owner.new().present(home) as owner:
                work(open_queue(home, spec, owner), [20, 40], most=most)
        rows = read_results(open_storage(home.url), home).rows
        params.append([(row.size, row.confirms, row.number, row.strategy) for row in rows])
    assert params[0] == params[1] == params[2]


def test_budgets_may_grow_and_finished_trials_stay(home, spec):
    with Owner.new().present(home) as owner:
        work(open_queue(home, spec, owner), [20, 40])
        before = {
            (r.size, r.number): r.strategy
            for r in read_results(open_storage(home.url), home).rows
            if r.explored is None
        }
        grown = spec.changed(search={"trials": 12}, task={"sizes": [20, 30, 40]}, confirm={"chains": 6})
        work(open_queue(home, grown, owner), [20, 30, 40])
    results = read_results(open_storage(home.url), home)
    after = {(row.size, row.number): row.strategy for row in results.rows if not row.confirms}
    assert before.items() <= after.items()
    assert Counter(size for size, _ in after) == {20: 12, 30: 12, 40: 12}
    assert results.is_finished([20, 30, 40])
    assert results.spec == grown


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"search": {"seed": 1}}, "search.seed is 1, stored is 0"),
        ({"search": {"trials": 5}}, "search.trials is 5, stored is 10"),
        ({"task": {"sizes": [20]}}, r"task.sizes is \[20\], stored is \[20, 40\]"),
        ({"space": {"head_lr": 0.1}}, "space.head_lr is 0.1, stored is None"),
    ],
)
def test_another_spec_under_the_same_name_is_refused(home, spec, changes, difference):
    open_queue(home, spec)
    with pytest.raises(StudyError, match=difference):
        check_stored(open_storage(home.url), home, spec.changed(**changes))


def in_process(job, home, spec):
    """Start this file as a program (below) that does the job in a process of its own."""
    content = json.dumps(spec.model_dump(mode="json", exclude_unset=True))
    return subprocess.Popen([sys.executable, __file__, job, home.folder.parent, content])


def die_in_a_trial(home, spec):
    assert in_process("die", home, spec).wait(60) == -signal.SIGKILL


def test_the_trial_of_a_killed_process_comes_back_as_itself(home, spec):
    with Owner.new().present(home) as owner:
        queue = open_queue(home, spec, owner)
        work(queue, [20], most=9)
        die_in_a_trial(home, spec)
        lost = optuna.load_study(study_name="tiny/n=20", storage=home.url).trials[9]
        assert lost.state == TrialState.RUNNING
        (claim, *_) = work(queue, [20], most=1)
        assert claim.trial.number == 9
        assert claim.trial.params == lost.params
        work(queue, [20])
    assert states(home) == {"COMPLETE": 10 + 5 * 6}


def test_a_trial_whose_process_dies_every_time_fails_with_the_reason(home, spec):
    for _ in range(ATTEMPTS):
        die_in_a_trial(home, spec)
    with Owner.new().present(home) as owner:
        work(open_queue(home, spec, owner), [20])
    first = read_results(open_storage(home.url), home).explored(20)[0]
    assert (first.state, first.reason) == ("FAIL", "its process died 3 times")
    assert len(read_results(open_storage(home.url), home).explored(20)) == 10


def test_a_trial_that_was_ended_while_it_was_looked_at_stays_what_it_is(home, spec, monkeypatch):
    with Owner.new().present(home) as other, Owner.new().present(home) as mine:
        theirs, queue = open_queue(home, spec, other), open_queue(home, spec, mine)
        claim = theirs.claim([20])

        def ends_just_now(owner, home):
            if owner == other and claim.study.trials[0].state == TrialState.RUNNING:
                theirs.finish(claim, TrialState.COMPLETE, {"size": 20, "chain": 0}, value=1.0)
            return owner == other

        monkeypatch.setattr(Owner, "is_gone", ends_just_now)
        assert queue.claim([20]).trial.number == 1
    assert claim.study.trials[0].state == TrialState.COMPLETE


def test_a_study_whose_first_trials_all_kill_their_process_stops_with_the_reason(home, spec):
    # Nine deaths: three of each of the first three trials; the third is not failed but waits.
    for _ in range(3 * ATTEMPTS):
        die_in_a_trial(home, spec)
    with Owner.new().present(home) as owner:
        queue = open_queue(home, spec, owner)
        with pytest.raises(StudyError, match="No trial is complete, and 3 killed their process; trial 2: its process"):
            queue.claim([20])
        assert states(home) == {"FAIL": 2, "WAITING": 1}
        assert queue.claim([20]).trial.number == 2


def test_a_study_goes_on_only_with_the_weights_it_was_begun_with(home, spec):
    open_queue(home, spec).check_weights("one")
    open_queue(home, spec).check_weights("one")
    with pytest.raises(StudyError, match="was begun with other weights of its backbone than are here"):
        open_queue(home, spec).check_weights("other")


def test_trials_of_a_run_that_was_stopped_come_back_however_often(tmp_path, database, spec):
    # Each time the whole run ends, so nothing speaks against the trial.
    home = Home.of("tiny", out=tmp_path / "out", storage=database)
    for _ in range(ATTEMPTS + 1):
        with Owner.new().present(home) as run, joined(home, spec, run=run.token, num_groups=GROUPS) as queue:
            assert queue.claim([20]).trial.number == 0
    with joined(home, spec, num_groups=GROUPS) as queue:
        work(queue, [20])
    assert Counter(row.state for row in load_results(home).rows) == {"COMPLETE": 10 + 5 * 6}


def test_confirm_trials_of_former_finalists_are_closed(home, spec):
    with Owner.new().present(home) as owner:
        work(open_queue(home, spec, owner), [20], most=12)  # two confirm trials are done, the others wait
        work(open_queue(home, spec.changed(search={"trials": 30}), owner), [20])
    results = read_results(open_storage(home.url), home)
    assert results.is_confirmed(20)
    assert not any(row.state == "WAITING" for row in results.rows)


def test_the_trial_of_a_living_process_is_left_alone(home, spec):
    with Owner.new().present(home) as one, Owner.new().present(home) as other:
        mine = open_queue(home, spec, one).claim([20])
        theirs = open_queue(home, spec, other).claim([20])
        assert (mine.trial.number, theirs.trial.number) == (0, 1)
    # Both have ended now, without finishing.
    with Owner.new().present(home) as third:
        again = open_queue(home, spec, third).claim([20])
        assert again.trial.number == 0


@pytest.mark.slow
def test_many_processes_on_an_empty_database_finish_exactly_the_budget(home, spec):
    processes = [in_process("work", home, spec) for _ in range(4)]
    assert [process.wait(120) for process in processes] == [0] * 4
    results = read_results(open_storage(home.url), home)
    assert Counter(row.size for row in results.rows if not row.confirms) == {20: 10, 40: 10}
    pairs = Counter((row.size, row.explored, row.chain) for row in results.rows if row.confirms)
    assert set(pairs.values()) == {1}, "no confirm trial is there twice"
    assert states(home).keys() == {"COMPLETE"}


def main(job, out, content):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    home, spec = Home.of("tiny", out=Path(out), storage=None), StudySpec.from_dict(json.loads(content), where="test")
    with Owner.new().present(home) as owner:
        with home.lock("queue"):
            storage = open_storage(home.url, create=True)
        queue = TrialQueue(storage, home, spec, num_groups=GROUPS, owner=owner)
        if job == "die":
            queue.claim([20]).trial.report(1.0, 0)
            os.kill(os.getpid(), signal.SIGKILL)
        while not queue.finished([20, 40]):
            work(queue, [20, 40])
            time.sleep(0.05)


if __name__ == "__main__":
    main(*sys.argv[1:])
