"""Options of a run, and those that a stored study keeps."""

import numpy as np
import pytest

from search.errors import SpecError
from search.run_config import RunConfig
from search.storage.database import open_storage
from search.storage.owner import WorkerLease
from search.verdict.load import read_results
from tests.search.queues import open_queue, work


def noise(place):
    """Return a noise that leaves several candidates close to the leader."""
    return 0.035 * np.random.default_rng(place).normal()


def run(location, spec):
    """Run a study's trials that are left, and return all of it."""
    with WorkerLease.new().held(location) as owner:
        work(open_queue(location, spec, owner), [20], noise=noise)
    return read_results(open_storage(location.database), location)


def of(location, **options):
    return RunConfig.of("tiny.toml", out=location.folder.parent, **options)


def test_more_repeats_continue_the_race(location, spec):
    """Trials that have ended stay as they are, and the study keeps the larger number."""
    before = run(location, spec)
    config = of(location, repeats=8).resuming(8)
    assert not config.stored().is_finished([20])
    after = run(location, config.spec)
    assert after.is_finished([20])
    assert after.spec.confirm.repeats == 8
    kept = {(row.size, row.judged, row.number): (row.strategy, row.repeat, row.scores) for row in before.rows}
    found = {(row.size, row.judged, row.number): (row.strategy, row.repeat, row.scores) for row in after.rows}
    assert kept.items() <= found.items()
    assert max(row.repeat for row in after.rows) > max(row.repeat for row in before.rows) == 5


def test_resuming_keeps_the_larger_repeats(location, spec):
    open_queue(location, spec.changed(confirm={"repeats": 8}))
    assert of(location).resuming().spec.confirm.repeats == 8
    assert of(location, repeats=9).resuming(9).spec.confirm.repeats == 9
    with pytest.raises(SpecError, match=r"^--repeats 6: 'tiny' has 8 already; allowed: 8 or more\.$"):
        of(location, repeats=6).resuming(6)


def test_a_new_study_takes_the_repeats_it_is_given(location, spec):
    assert of(location, repeats=7).resuming(7).spec == spec.changed(confirm={"repeats": 7})
