"""Candidates of the race at sizes that are explored, and at sizes that are too large for it."""

import itertools
from collections import Counter

from search.storage.database import open_storage
from search.storage.location import StudyLocation
from search.storage.owner import WorkerLease
from search.verdict.judge import judge_all
from search.verdict.load import read_results
from search.verdict.race import KEPT, KEPT_UNEXPLORED
from tests.search.queues import GROUPS, open_queue, work

FOUND = {5, 6, 7}
"""Exploring trials that seem to be the best by far."""


def finished(location, spec, sizes, **facts):
    """Run a study's trials to their end by one worker; return its results and its claims."""
    with WorkerLease.new().held(location) as owner:
        queue = open_queue(location, spec.changed(search={"trials": 20}), owner, **facts)
        claims = work(
            queue, sizes, seems=lambda number, value, judged: value - (5 if number in FOUND and not judged else 0)
        )
        assert queue.finished(sizes)
    return read_results(open_storage(location.database), location), claims


def test_sizes_try_what_the_others_found(location, spec):
    """A strategy that one size has found may race at another, and stores where it comes from."""
    results, _ = finished(location, spec, [20, 40])
    for size, other in ((20, 40), (40, 20)):
        own = {row.strategy: row.number for row in reversed(results.explored(size))}
        judged = results.confirmed(size)
        assert {len(results.candidates(size))} == {KEPT[0]}
        assert all(row.source_trial == own.get(row.strategy) for row in judged)
        assert {row.warm_started_from for row in judged if row.strategy not in own} <= {other}
        assert {tuple(row.raced_with) for row in judged} == {(20, 40)}
        assert all(row.family == str(row.strategy.family(GROUPS)) for row in judged)
    assert any(row.warm_started_from for row in results.rows), "the sampler's own differ from size to size"


def test_unexplored_size_races_what_the_others_found(location, spec):
    """Baselines and portfolio run there, and what the explored size found, on the first repeat."""
    results, claims = finished(location, spec, [20, 40], unexplored=[40])
    assert Counter(claim.size for claim in claims if not claim.judged) == {20: 20}
    first = Counter(claim.strategy for claim in claims if claim.size == 40 and claim.repeat == 1)
    assert first == dict.fromkeys(results.candidates(40), 1)
    assert len(first) == KEPT_UNEXPLORED[0]
    found = {row.strategy for row in results.explored(20) if row.number in FOUND}
    assert found <= first.keys()
    for row in results.confirmed(40):
        assert row.source_trial is None
        assert row.warm_started_from in (20, None)
        assert row.baseline == (row.strategy in results.baselines)
    assert judge_all(results).keys() == {20, 40}


def test_unexplored_sizes_alone_race_baselines_and_portfolio(location, spec):
    """Without any size to explore nothing else is known."""
    results, claims = finished(location, spec, [20, 40], unexplored=[20, 40])
    assert all(claim.judged for claim in claims)
    for size in (20, 40):
        assert results.candidates(size) == [*results.baselines, *results.portfolio][: KEPT_UNEXPLORED[0]]
    assert judge_all(results).keys() == {20, 40}


def test_size_alone_waits_for_no_other(location, spec):
    """A run of one size ends without those that it did not ask for, until they race together."""
    with WorkerLease.new().held(location) as owner:
        queue = open_queue(location, spec, owner)
        work(queue, [20], most=3)
        assert {claim.size for claim in work(queue, [40])} == {40}
        assert queue.finished([40])
        assert not queue.finished([20])


def test_sizes_that_race_together_finish_together(location, spec):
    """A run of one size also runs what its companions lack."""
    with WorkerLease.new().held(location) as owner:
        queue = open_queue(location, spec, owner)
        work(queue, [20, 40], most=25)
        claims = work(queue, [40])
        assert {claim.size for claim in claims} == {20, 40}
        assert queue.finished([20, 40])


def test_race_waits_for_the_last_exploring_trial(location, spec):
    """A second worker gets no confirm trial while one size is still being explored."""
    with WorkerLease.new().held(location) as one, WorkerLease.new().held(location) as other:
        mine, theirs = (open_queue(location, spec, owner, unexplored=[40]) for owner in (one, other))
        work(mine, [20, 40], most=9)
        last = mine.claim([20, 40])
        assert theirs.claim([20, 40]) is None
        assert not theirs.finished([20, 40])
        mine.requeue(last)
        work(mine, [20, 40])
        assert theirs.finished([20, 40])


def test_confirm_trials_depend_on_no_worker_count_or_stop(tmp_path, spec):
    """The same confirm trials run, whoever runs them and however often the study is stopped."""

    def noise(place):
        return 0.003 * (sum(place[::2]) % 7)

    spec, runs = spec.changed(confirm={"repeats": 7}), []
    for name, count, length in (("whole", 1, 1000), ("stopped", 3, 17)):
        location = StudyLocation.of(name, out=tmp_path, storage=None)
        location.folder.mkdir()
        claims = [None]
        while claims:
            with WorkerLease.new().held(location) as owner:
                queues = [open_queue(location, spec, owner, unexplored=[40]) for _ in range(count)]
                turns = itertools.islice(itertools.cycle(queues), length)
                claims = list(itertools.takewhile(bool, (work(q, [20, 40], most=1, noise=noise) for q in turns)))
        results = read_results(open_storage(location.database), location)
        assert results.is_finished([20, 40])
        runs.append({size: {(r.strategy, r.repeat) for r in results.confirmed(size)} for size in (20, 40)})
    assert runs[0] == runs[1]
