"""Candidates of the confirm race at sizes that are explored, and at sizes that are too large for it."""

import itertools
from collections import Counter

from search.storage.database import open_storage
from search.storage.location import StudyLocation
from search.storage.owner import WorkerLease
from search.verdict.confirm import best_of_each_family
from search.verdict.judge import judge_all
from search.verdict.load import read_results
from tests.search.queues import GROUPS, open_queue, work

REPEATS = range(1, 6)


def finished(location, spec, sizes, **facts):
    """Run a study's trials to their end by one worker; return its results and its claims.

    While it explores, the later a trial the better it seems: so the search finds better ones than the baselines.
    """
    with WorkerLease.new().held(location) as owner:
        queue = open_queue(location, spec, owner, **facts)
        claims = work(queue, sizes, seems=lambda number, value, judged: value - (0 if judged else number))
        assert queue.finished(sizes)
    return read_results(open_storage(location.database), location), claims


def test_unexplored_size_confirms_what_the_next_smaller_found(location, spec):
    """The baselines and each family's best at the next smaller size run, each once a repeat."""
    results, claims = finished(location, spec, [20, 40], unexplored=[40])
    assert Counter(claim.size for claim in claims if not claim.judged) == {20: 10}
    best = {row.strategy for row in best_of_each_family(results.explored(20), metric=results.metric)}
    assert best - {*results.baselines}, "the search has found something"
    assert {*results.candidates(40)} == {*results.baselines} | best
    pairs = Counter((claim.strategy, claim.repeat) for claim in claims if claim.size == 40)
    assert pairs == dict.fromkeys(itertools.product(results.candidates(40), REPEATS), 1)
    assert judge_all(results).keys() == {20, 40}


def test_confirm_trials_of_an_unexplored_size_store_their_origin(location, spec):
    """No exploring trial of that size is named, but the size that found the strategy."""
    results, _ = finished(location, spec, [20, 40], unexplored=[40])
    for row in results.confirmed(40):
        usual = row.strategy in results.baselines
        assert (row.baseline, row.warm_started_from, row.source_trial) == (usual, None if usual else 20, None)
        assert row.family == str(row.strategy.family(GROUPS))
    assert {row.source_trial is None for row in results.confirmed(20)} == {False}


def test_study_of_unexplored_sizes_alone_races_the_baselines(location, spec):
    """Without any size to explore the candidates are the baselines."""
    results, claims = finished(location, spec, [20, 40], unexplored=[20, 40])
    assert all(claim.judged for claim in claims)
    for size in (20, 40):
        assert results.candidates(size) == [*results.baselines]
        assert {row.strategy for row in results.confirmed(size)} == {*results.baselines}
    assert judge_all(results).keys() == {20, 40}


def test_unexplored_size_alone_ends_the_search_below_it(location, spec):
    """A run of that size alone explores what another has begun: else it would wait for ever."""
    with WorkerLease.new().held(location) as owner:
        queue = open_queue(location, spec, owner, unexplored=[40])
        work(queue, [20], most=3)
        claims = work(queue, [40])
        assert Counter((claim.size, claim.judged) for claim in claims)[20, False] == 7
        assert queue.finished([40])
        assert not queue.finished([20])


def test_unexplored_size_waits_for_the_smaller_one(location, spec):
    """A second worker gets no confirm trial while the smaller size is still being explored."""
    with WorkerLease.new().held(location) as one, WorkerLease.new().held(location) as other:
        mine, theirs = (open_queue(location, spec, owner, unexplored=[40]) for owner in (one, other))
        work(mine, [20], most=9)
        last = mine.claim([20])
        assert theirs.claim([20, 40]) is None
        assert not theirs.finished([40])
        mine.requeue(last)
        work(mine, [20, 40])
        assert theirs.finished([20, 40])


def test_unexplored_sizes_depend_on_no_worker_count_or_stop(tmp_path, spec):
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
