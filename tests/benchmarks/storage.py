"""A trial's costs in the database: statements, commits and seconds, beside those of a plain Optuna script.

    python tests/benchmarks/storage.py

Both run the same 30 trials of 20 epochs that train nothing, one after the other in turn, on SQLite and on a PostgreSQL
server of its own: the script by `study.ask`, `report`, `should_prune`, `tell` with Optuna's own settings and its median
pruner; ours by the queue that a worker uses. Then some worker processes share one study on this machine's server.
"""

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import TrialState

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from search.spec.study_spec import StudySpec
from search.storage.location import StudyLocation
from search.study.result import TrialResult
from search.workers.worker import joined_study
from tests.faults.crew import Crew
from tests.faults.worker import Work
from tests.postgres import Postgres, programs

EPOCHS, TRIALS = 20, 30
SPEC = {
    "task": {"data": "none", "sizes": [20], "metric": "loss"},
    "model": {"backbone": "none", "weights": "none"},
    "train": {"epochs": EPOCHS},
    "search": {"trials": TRIALS},
    "confirm": {"repeats": 0},
}


@dataclass
class Count:
    """Statements and commits, and their seconds."""

    statements: list[int] = field(default_factory=list)
    commits: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    claims: list[float] = field(default_factory=list)
    """Seconds until a trial is chosen: those in which our workers go one at a time."""
    now: list[int] = field(default_factory=lambda: [0, 0])

    def watch(self, storage: BaseStorage) -> None:
        engine = storage._backend.engine
        sqlalchemy.event.listen(engine, "before_cursor_execute", lambda *_: self._add(0))
        sqlalchemy.event.listen(engine, "commit", lambda *_: self._add(1))

    def _add(self, place: int) -> None:
        self.now[place] += 1

    def report(self, trial: optuna.Trial, epoch: int) -> bool:
        before, began = list(self.now), time.perf_counter()
        trial.report(1.0 / (epoch + 1 + trial.number % 7), epoch)
        prunes = trial.should_prune()
        self.seconds.append(time.perf_counter() - began)
        self.statements.append(self.now[0] - before[0])
        self.commits.append(self.now[1] - before[1])
        return prunes


def script(url: str) -> Callable[[], bool]:
    """Trials as a plain script runs them."""
    count, storage = COUNTS["script"], optuna.storages.get_storage(RDBStorage(url))
    count.watch(storage)
    study = optuna.create_study(storage=storage, pruner=optuna.pruners.MedianPruner(n_startup_trials=5))

    def run() -> bool:
        began = time.perf_counter()
        trial = study.ask()
        trial.suggest_int("freeze_depth", 0, 4)
        trial.suggest_int("unfreeze_epoch", 0, EPOCHS - 1)
        trial.suggest_float("backbone_lr_ratio", 0.01, 1, log=True)
        trial.suggest_float("head_lr", 1e-4, 1e-1, log=True)
        count.claims.append(time.perf_counter() - began)
        pruned = any(count.report(trial, epoch) for epoch in range(EPOCHS))
        study.tell(trial, None if pruned else 1.0, state=TrialState.PRUNED if pruned else TrialState.COMPLETE)
        count.whole.append(time.perf_counter() - began)
        return True

    return run


def ours(url: str, folder: Path) -> Callable[[], bool]:
    """Trials as a worker runs them."""
    count = COUNTS["ours"]
    location = StudyLocation.of("benchmark", out=folder, storage=url)
    work = joined_study(location, StudySpec.from_dict(SPEC, where="the benchmark"), num_groups=4)
    queue = work.__enter__()
    count.watch(queue.storage)

    def run() -> bool:
        began = time.perf_counter()
        if (claim := queue.claim([20])) is None:
            work.__exit__(None, None, None)
            return False
        count.claims.append(time.perf_counter() - began)
        family = str(claim.strategy.family(4))
        queue.note(claim, {"size": 20, "repeat": 0, "seed": 1, "family": family, "trainable_parameters": 1})
        pruned = any(count.report(claim.trial, epoch) for epoch in range(EPOCHS))
        state = TrialState.PRUNED if pruned else TrialState.COMPLETE
        queue.finish(claim, TrialResult(state=state, value=1.0, epochs=EPOCHS, seconds=1.0))
        count.whole.append(time.perf_counter() - began)
        return True

    return run


def rate(url: str, workers: int) -> float:
    """Trials a second that so many workers finish together, when nothing but the database takes time."""
    spec = {**SPEC, "search": {"trials": 150, "sampler": "random"}}
    with tempfile.TemporaryDirectory() as folder:
        log = f"{folder}/log"
        crew = Crew(
            [Work(out=folder, storage=url, log=log, spec=json.dumps(spec), pause=0, beat=10, grace=60)] * workers
        )
        crew.finish(within=600)
        ends = sorted(at for at, _, what, _ in crew.log() if what == "end")
    return 100 / (ends[130] - ends[30])


COUNTS: dict[str, Count] = {}


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    where = programs()
    server = Postgres(where) if where is not None else None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        databases = {"SQLite": [f"sqlite:///{folder}/script.db", f"sqlite:///{folder}/ours.db"]}
        if server is not None:
            databases["PostgreSQL"] = [server.url(), server.url()]
        print(f"{'':<20}statements, commits a report | ms a report | a trial: statements, ms to choose, ms, of 10 s")
        for database, (first, second) in databases.items():
            COUNTS.update(script=Count(), ours=Count())
            one, other = script(first), ours(second, folder)
            while other():
                one()
            for who, count in COUNTS.items():
                statements, commits = (sum(kind) / len(kind) for kind in (count.statements, count.commits))
                whole, each = median(count.whole), count.now[0] / len(count.whole)
                report, choice = 1000 * median(count.seconds), 1000 * median(count.claims)
                print(
                    f"{database:<12}{who:<8}{statements:5.1f} (at most {max(count.statements)}), {commits:.1f}       | "
                    f"{report:6.1f}      | {each:4.0f}  {choice:6.0f}  {whole * 1000:6.0f}  {whole / 10:.1%}"
                )
    if server is not None:
        for workers in (1, 4, 16):
            print(
                f"PostgreSQL  {workers:2} workers whose trials take no time: {rate(server.url(), workers):.1f} trials/s"
            )
        server.remove()


if __name__ == "__main__":
    main()
