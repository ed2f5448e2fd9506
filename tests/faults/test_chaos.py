"""Chaos: after random faults of workers and database no trial is lost or run twice.

`pytest tests/faults/test_chaos.py -m fault -n 4` runs 200 rounds, and ten of real training, in half an hour.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from search.storage.location import StudyLocation
from search.verdict.load import load_results
from tests.faults.crew import Crew, check
from tests.faults.worker import Work

pytestmark = pytest.mark.fault
ROUNDS = 200


@pytest.mark.parametrize(
    "seed", [0, 10, *(pytest.param(s, marks=pytest.mark.soak) for s in range(ROUNDS) if s not in (0, 10))]
)
def test_random_faults_lose_and_double_nothing(tmp_path, postgres, seed, tell):
    dice = random.Random(seed)
    url = postgres.url() if seed % 3 != 1 else f"sqlite:///{tmp_path}/study.db"
    work = Work(out=str(tmp_path), storage=url, log=str(tmp_path / "log"), pause=dice.choice([0.005, 0.02, 0.05]))
    works = [work] * dice.randint(2, 5)
    if url.startswith("postgresql"):  # some of them on other hosts
        works = [replace(work, out=str(tmp_path / "b")) if dice.random() < 0.4 else work for work in works]
    done = Counter[str]()
    crew = Crew(works)
    try:
        next_blow = [time.monotonic() + dice.uniform(0, 0.5)]
        suspended: dict[int, float] = {}

        def torment() -> None:
            now = time.monotonic()
            for index in [index for index, until in suspended.items() if now > until]:
                crew.signal(index, signal.SIGCONT)
                del suspended[index]
            if now < next_blow[0] or sum(done.values()) > 8:
                return
            next_blow[0] = now + dice.uniform(0.05, 0.8)
            index = dice.randrange(len(works))
            blow = dice.choices(["kill", "suspend", "restart"], [6, 2, 3 if seed % 10 == 0 else 0])[0]
            if blow == "kill" and index not in suspended:
                crew.signal(index, signal.SIGKILL)
            elif blow == "suspend" and index not in suspended:
                crew.signal(index, signal.SIGSTOP)
                suspended[index] = now + dice.uniform(0.1, 2.5)
            elif blow == "restart" and url.startswith("postgresql"):
                postgres.stop(dice.choice(["fast", "immediate"]))
                time.sleep(dice.uniform(0, 1))
                postgres.start()
            done[blow] += 1

        crew.finish(within=600, meanwhile=torment)
        results = check(work, crew)
        assert set(crew.codes) <= {-signal.SIGKILL}, "one died that was not killed"
    finally:
        crew.end()
    states = Counter(row.state for row in results.rows)
    tell(f"chaos {seed:3}", f"{len(works)} workers, {dict(done)}: {dict(states)}")


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_random_faults_in_real_training_lose_nothing(tiny, postgres, monkeypatch, seed, tell):
    dice = random.Random(seed)
    monkeypatch.setenv("DATABASE", postgres.url())
    command = [sys.executable, "-m", "search", "worker", str(tiny), "--storage", "env:DATABASE", "--workers", "2"]
    blows = 0
    with (tiny.parent / "output.txt").open("w") as output:

        def start():
            return subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)

        workers = [start(), start()]
        limit = time.monotonic() + 600
        while any(worker.poll() is None for worker in workers):
            assert time.monotonic() < limit
            time.sleep(dice.uniform(2, 8))
            index = dice.randrange(len(workers))
            if blows < 6 and workers[index].poll() is None:
                blow = dice.choice(["all", "parent", "restart"])
                if blow == "restart":
                    postgres.stop(dice.choice(["fast", "immediate"]))
                    time.sleep(dice.uniform(0, 2))
                    postgres.start()
                else:
                    kill = os.killpg if blow == "all" else os.kill
                    kill(workers[index].pid, signal.SIGKILL)
                    workers[index].wait()
                    workers[index] = start()
                blows += 1
    assert [worker.returncode for worker in workers] == [0, 0], (tiny.parent / "output.txt").read_text()
    results = load_results(StudyLocation.of("tiny", out=Path("studies"), storage="env:DATABASE"))
    assert results.is_finished([20, 40])
    assert {row.state for row in results.rows} <= {"COMPLETE", "PRUNED"}
    assert Counter(row.size for row in results.rows if not row.judged) == {20: 10, 40: 10}
    tell(f"chaos in real training, {seed}", f"{blows} blows, {len(results.rows)} trials, each once")
