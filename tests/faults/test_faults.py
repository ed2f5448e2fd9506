"""The fault matrix: faults of workers and of their database, of which no trial is lost.

`pytest -m fault` runs it and prints a line a fault; `pytest -m "fault and not soak"` leaves out what takes minutes.

- Here trials train nothing. Faults of a trial itself are in `test_trials.py`, random ones in `test_chaos.py`.
- Signals and kills of real training are in `tests/search/test_run.py`, Ray in `workers/test_ray_engine.py` beside it.
- Checkpoints are in `training/checkpoint/`, databases in `storage/`, a full disk in `activations/test_disks.py`.
"""

import json
import os
import signal
import sqlite3
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from search.workers.watchdog import HUNG_EXIT_CODE
from tests.faults.crew import Crew, check
from tests.faults.worker import STUDY, Work

pytestmark = pytest.mark.fault
FEW = json.dumps({**STUDY, "search": {"trials": 4, "sampler": "random", "pruner": "none"}, "confirm": {"repeats": 0}})


@pytest.fixture
def work(tmp_path, database):
    return work_in(tmp_path, database)


def work_in(folder, database, **changes):
    (folder / "out").mkdir(exist_ok=True)
    return Work(out=str(folder / "out"), storage=database, log=str(folder / "log"), **changes)


def elsewhere(work, name):
    """Return the study as another host sees it, without the locks of this one."""
    out = f"{work.out}-{name}"
    os.makedirs(out, exist_ok=True)
    return replace(work, out=out)


@contextmanager
def crew_of(*works):
    crew = Crew(list(works))
    try:
        yield crew
    finally:
        crew.end()


def wait_for(crew, what, *, by=None, within=300, after=0.0):
    """Return the first line of the log with that word, after that time."""
    limit = time.monotonic() + within
    while time.monotonic() < limit:
        if os.path.exists(crew.works[0].log):
            for line in crew.log():
                if line[2] == what and line[0] > after and by in (None, line[1]):
                    return line
        time.sleep(0.01)
    raise AssertionError(f"no line {what!r}: {crew.log()[-5:]}")


@pytest.mark.parametrize("workers", [4, *(pytest.param(many, marks=pytest.mark.soak) for many in (1, 2, 8, 16))])
def test_workers_on_an_empty_database_run_exactly_the_budget(work, workers, tell):
    with crew_of(*[work] * workers) as crew:
        crew.finish(within=600)
        assert not crew.codes, "one of them died"
        results = check(work, crew)
        candidates = {row.strategy: row.family for row in results.confirmed(20)}
        assert len(candidates) > len({*candidates.values()}), "several of a family"
    tell(f"{workers} workers begin on an empty database", f"{len(results.rows)} trials, each once")


def test_trial_of_a_killed_worker_runs_again_at_once(work, tell):
    slow = replace(work, pause=0.2, grace=600, spec=FEW)
    with crew_of(slow, slow) as crew:
        _, process, _, trial = wait_for(crew, "begin")
        crew.signal([one.pid for one in crew.processes].index(process), signal.SIGKILL)
        killed = time.monotonic()
        while not (
            again := [at for at, by, what, about in crew.log() if (what, about) == ("begin", trial) and by != process]
        ):
            crew.keep_up()
            assert time.monotonic() < killed + 300
            time.sleep(0.01)
        crew.works = [replace(slow, pause=0.01)] * 2
        crew.finish(within=600)
        check(slow, crew)
    tell("SIGKILL in a trial", f"runs again after {again[0] - killed:.1f} s (the other worker ends its own first)")


def test_trial_of_another_host_runs_again_after_the_grace(tmp_path, postgres, tell):
    work = work_in(tmp_path, postgres.url(), pause=0.3, spec=FEW, beat=1.0, grace=3.0)  # a slow disk is no death
    with crew_of(work) as crew:
        _, _, _, trial = wait_for(crew, "begin")
        crew.signal(0, signal.SIGKILL)  # most likely before its first beat
        killed = time.monotonic()
        crew.works = [elsewhere(work, "b")]
        crew.processes = [crew._start(crew.works[0])]
        again = wait_for(crew, "begin", after=killed)
        while again[3] != trial:
            again = wait_for(crew, "begin", after=again[0])
        crew.works = [replace(crew.works[0], pause=0.01)]
        crew.finish(within=600)
        check(work, crew)
    assert again[0] - killed > work.grace
    tell(
        "SIGKILL on another host, before the first beat",
        f"runs again after {again[0] - killed:.1f} s; grace {work.grace} s",
    )


def test_worker_suspended_beyond_the_grace_writes_nothing_more(tmp_path, postgres, tell):
    work = work_in(tmp_path, postgres.url(), pause=0.3, spec=FEW, beat=1.0, grace=3.0)  # a slow disk is no death
    with crew_of(work, elsewhere(work, "b")) as crew:
        _, process, _, trial = wait_for(crew, "begin")
        suspended = [one.pid for one in crew.processes].index(process)
        crew.signal(suspended, signal.SIGSTOP)
        at = time.monotonic()
        while (taken := wait_for(crew, "begin", after=at))[3] != trial:
            at = taken[0]
        ended = wait_for(crew, "end", by=taken[1], after=taken[0])
        assert ended[3] == trial
        crew.signal(suspended, signal.SIGCONT)
        crew.finish(within=600)
        assert not crew.codes, "losing a trial is no reason to die"
        check(work, crew)
        assert (process, "end", trial) not in [line[1:] for line in crew.log()]
    tell("suspended beyond the grace, then woken", "its trial went to another; it wrote nothing more and went on")


@pytest.mark.parametrize(
    ("mode", "seconds"),
    [
        ("immediate", 3),
        pytest.param("fast", 0, marks=pytest.mark.soak),
        pytest.param("fast", 60, marks=pytest.mark.soak),
        pytest.param("fast", 300, marks=pytest.mark.soak),
    ],
)
def test_workers_wait_for_a_server_that_goes_away(tmp_path, postgres, mode, seconds, tell):
    work = work_in(tmp_path, postgres.url(), pause=0.05)
    with crew_of(work, work, elsewhere(work, "b")) as crew:
        wait_for(crew, "end")
        postgres.stop(mode)
        time.sleep(seconds)
        postgres.start()
        crew.finish(within=600)
        assert not crew.codes, "a worker died of it"
        check(work, crew)
        notes = {about[11:] for _, _, what, about in crew.log() if what == "note"}
    if seconds:
        assert any(note.startswith("the database does not answer (") for note in notes)
        assert "resumed." in notes
    tell(f"PostgreSQL stopped ({mode}), started again after {seconds} s", "no worker and no trial lost")


def test_claim_whose_lock_is_lost_starts_again(tmp_path, postgres, tell):
    url = postgres.url()
    work = work_in(tmp_path, url)
    holders = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    with crew_of(*[work] * 3) as crew:
        killed = 0
        wait_for(crew, "begin")
        while crew.keep_up() and killed < 6:
            killed += int(postgres.sql(holders, url.rpartition("/")[2]))
        crew.finish(within=600)
        assert killed == 6
        assert not crew.codes
        check(work, crew)
    tell("PostgreSQL ends the connections that hold the lock of claims", f"{killed} times; exact budget")


@pytest.mark.parametrize("seconds", [2, pytest.param(30, marks=pytest.mark.soak)])
def test_workers_wait_for_a_locked_file(tmp_path, seconds, tell):
    work = work_in(tmp_path, f"sqlite:///{tmp_path}/study.db")
    with crew_of(work, work) as crew:
        wait_for(crew, "end")
        with sqlite3.connect(tmp_path / "study.db", timeout=60, isolation_level=None) as connection:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            connection.execute("ROLLBACK")
        connection.close()
        crew.finish(within=600)
        assert not crew.codes
        check(work, crew)
    tell(f"the SQLite file locked for {seconds} s", "no worker and no trial lost")


@contextmanager
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", disk], capture_output=True).returncode
    ):
        pytest.skip("a small file system can't be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def fill_up(disk):
    """Fill the disk with a file, while others write too."""
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as stream:
        while True:
            stream.write(b"\0" * 4096)
    return ballast


def test_workers_wait_for_a_full_disk(tmp_path, tell):
    with small_disk(tmp_path) as disk:
        work = work_in(tmp_path, f"sqlite:///{disk}/study.db")
        with crew_of(work, work) as crew:
            wait_for(crew, "end")
            ballast = fill_up(disk)
            note = wait_for(crew, "note")
            ballast.unlink()
            crew.finish(within=600)
            assert not crew.codes
            check(work, crew)
        assert "full" in note[3]
    tell("the disk of the database is full", "waited for room; no worker and no trial lost")


@pytest.mark.parametrize(
    "database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.soak)], indirect=["database"]
)
def test_trial_that_always_hangs_fails_with_the_reason(tmp_path, database, tell):
    spec = json.dumps({**STUDY, "train": {"epochs": 4, "timeout": 3}})
    work = work_in(tmp_path, database, spec=spec, hangs=True)
    with crew_of(work) as crew:
        crew.finish(within=600)
        assert set(crew.codes) == {HUNG_EXIT_CODE}
        (hung,) = [row for row in check(work, crew).rows if row.state == "FAIL"]
    assert hung.reason == "its process died 3 times, the last time after 3 s without progress"
    tell("a trial hangs, three times", f"failed: {hung.reason}; the others are complete")


def test_time_zones_do_not_matter(tmp_path, postgres, tell):
    work = work_in(tmp_path, postgres.url(), pause=0.05, zone="Pacific/Kiritimati")
    others = [replace(elsewhere(work, name), zone=zone) for name, zone in (("b", "Pacific/Honolulu"), ("c", "UTC"))]
    with crew_of(work, *others) as crew:
        crew.finish(within=600)
        assert not crew.codes
        check(work, crew)
        assert len({process for _, process, *_ in crew.log()}) == 3
    tell("workers in three time zones, 24 hours apart", "nobody took a living one for dead")
