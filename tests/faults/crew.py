"""Workers to start, kill and stop, and the rules that hold after all faults."""

import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise
from multiprocessing.process import BaseProcess

from optuna.trial import TrialState

from search.storage.database import open_storage
from search.storage.rdb import leased_storage
from search.verdict.load import read_results
from search.verdict.results import Results
from tests.faults import worker
from tests.faults.worker import Work
from tests.forks import FORKS


class Crew:
    """Some workers of one study; `keep_up` replaces each that dies."""

    def __init__(self, works: list[Work]) -> None:
        self.works = works
        self.processes = [self._start(work) for work in works]
        self.ended: dict[int, float] = {}
        self.codes: Counter[int] = Counter()

    def _start(self, work: Work) -> BaseProcess:
        process = FORKS.Process(target=worker.main, args=(work,), daemon=True)
        process.start()
        return process

    def signal(self, index: int, number: signal.Signals) -> None:
        """Send a signal to a worker, if it still lives."""
        process = self.processes[index]
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, number)
            if number == signal.SIGKILL:
                process.join()
                self.ended[process.pid] = time.monotonic()

    def keep_up(self) -> bool:
        """Replace the dead workers, and return whether any is at work."""
        for index, process in enumerate(self.processes):
            if process.exitcode not in (None, 0):
                self.codes[process.exitcode] += 1
                self.processes[index] = self._start(self.works[index])
        return any(process.exitcode is None for process in self.processes)

    def finish(self, *, within: float, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until all have ended with exit code 0; those that die are replaced."""
        limit = time.monotonic() + within
        while self.keep_up():
            assert time.monotonic() < limit, f"still at work: {self.log()[-5:]}"
            meanwhile()
            time.sleep(0.02)

    def end(self) -> None:
        """Kill all that are left."""
        for process in self.processes:
            process.kill()
            process.join()

    def log(self) -> list[tuple[float, int, str, str]]:
        """Return the lines of all workers: time, process, word, what about."""
        with open(self.works[0].log) as log:
            parts = [line.rstrip("\n").split("\t", 3) for line in log]
        return [(float(at), int(process), what, about) for at, process, what, about in parts]


def check(work: Work, crew: Crew) -> Results:
    """Check the budget and that no trial is there twice, no lock file left; return the results.

    The budget: so many exploring trials at each size that is explored, and exactly the confirm trials of the race.
    """
    location, spec = work.location, work.study
    storage = open_storage(location.database)
    results = read_results(storage, location)
    assert results.is_finished(spec.task.sizes)
    for size in spec.task.sizes:
        assert len(results.explored(size)) == (0 if size in worker.UNEXPLORED else spec.search.trials)
        judged = [(row.strategy, row.repeat) for row in results.rows if row.judged and row.size == size]
        assert Counter(judged) == dict.fromkeys(results.needed_confirm_trials(size), 1), "not those that the race needs"
    assert not [row for row in results.rows if not row.is_finished]
    assert all(row.reason for row in results.rows if row.state == "FAIL")
    for study in storage.get_all_studies():
        for trial in storage.get_all_trials(study._study_id):
            if trial.state == TrialState.COMPLETE:
                curve = trial.intermediate_values
                assert [*curve] == [*range(spec.train.epochs)]
                assert trial.value == curve[spec.train.epochs - 1]
    leased_storage(storage).engine.dispose()
    check_turns(crew)
    for folder in {one.location.locks for one in crew.works}:
        assert not [*folder.glob("*")], "a lock file was left behind"
    return results


def check_turns(crew: Crew) -> None:
    """Check that no two processes write of a trial at a time, or end it twice.

    A turn lasts from its first write to its last. A process that is suspended before it writes has none yet.
    """
    turns: dict[str, list[list[float]]] = defaultdict(list)
    mine: dict[tuple[int, str], list[float]] = {}
    for at, process, what, about in crew.log():
        if what == "begin":
            mine.pop((process, about), None)
        elif what in ("epoch", "end"):
            if (process, about) not in mine:
                mine[process, about] = [at, at]
                turns[about].append(mine[process, about])
            mine[process, about][1] = at
    ends = Counter(about for _, _, what, about in crew.log() if what == "end")
    assert max(ends.values(), default=0) <= 1, "a trial ended twice"
    for about, spans in turns.items():
        for (_, ended), (begun, _) in pairwise(sorted(spans)):
            assert begun >= ended, f"{about} was run twice at a time: {spans}"
