"""The main job: a study file in; a study, a verdict per size, a page and a strategy to import out."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from search.display import Progress, answer
from search.errors import FrostlineError, SpecError, TaskError
from search.home import OUT, Home
from search.report import write_report
from search.results import load_results, read_results, stored_spec
from search.rows import Results
from search.spec import StudySpec, find_study_file
from search.storage import check_parent, exists, open_storage, shown, storage_errors
from search.study import TrialQueue, check_stored
from search.verdict import Verdict, judge, judge_all
from search.workers import run_workers


class Stopped(BaseException):
    """The user asked us to stop; `code` is the exit code for it."""

    def __init__(self, code: int) -> None:
        self.code = code


def read_spec(study: str, *, trials: int | None, seed: int | None, sizes: list[int] | None) -> tuple[Path, StudySpec]:
    """The study file and its spec, options applied. Raises `SpecError`."""
    file = find_study_file(study)
    spec = StudySpec.from_file(file)
    search = {key: value for key, value in (("trials", trials), ("seed", seed)) if value is not None}
    if search:
        spec = spec.changed(search=search)
    for size in sizes or []:
        if size not in spec.task.sizes:
            allowed = ", ".join(map(str, spec.task.sizes))
            raise SpecError(f"--sizes {size} is not among the sizes of {file}; allowed: {allowed}.")
    return file, spec


def run_study(
    study: str,
    *,
    console: Console,
    storage: str | None = None,
    sizes: list[int] | None = None,
    trials: int | None = None,
    workers: int = 2,
    out: Path = OUT,
    seed: int | None = None,
) -> None:
    """Run a study to its end, or go on where it stopped, and say what it found.

    Raises `FrostlineError` before anything is written where the study file, the task or the storage is not
    right, and `Stopped` after Ctrl-C or SIGTERM, with the trials in flight back in the queue.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file, spec = read_spec(study, trials=trials, seed=seed, sizes=sizes)
    home = Home.of(file.stem, out=out, storage=storage)
    chosen = sizes or spec.task.sizes
    check_parent(home.url, made_by_us=storage is None)
    if not _is_finished(home, spec, chosen):
        with _stopping(), Progress(console, chosen) as progress:
            try:
                with _naming(file):
                    run_workers(spec, home, chosen, count=workers, tick=_Watch(home, progress))
            except Stopped:
                _requeue(home, spec)
                raise
    results = load_results(home)
    page = write_report(results)
    _say(console, results, page, study=study, storage=storage, out=out)


def estimate(
    study: str,
    *,
    console: Console,
    storage: str | None = None,
    sizes: list[int] | None = None,
    trials: int | None = None,
    workers: int = 2,
    out: Path = OUT,
    seed: int | None = None,
) -> None:
    """Say what a run would do and about how long it would take, from a few epochs trained here; writes nothing."""
    file, spec = read_spec(study, trials=trials, seed=seed, sizes=sizes)
    home = Home.of(file.stem, out=out, storage=storage)
    chosen = sizes or spec.task.sizes
    check_parent(home.url, made_by_us=storage is None)
    done = 0
    if exists(home.url):
        opened = open_storage(home.url)
        check_stored(opened, home, spec)
        if stored_spec(opened, home) is not None:
            done = sum(row.is_finished and row.size in chosen for row in read_results(opened, home).rows)
    from search.timing import seconds_per_trial

    with _naming(file):
        num_groups, families, seconds = seconds_per_trial(spec, max(chosen))
    explore = len(chosen) * spec.search.trials
    confirm = len(chosen) * families * spec.confirm.chains
    left = max(explore + confirm - done, 0)
    console.print(
        f"Study {home.name!r}: data {spec.task.data}, backbone {spec.model.backbone} with {num_groups} layer groups.\n"
        f"Sizes {', '.join(map(str, chosen))}: {explore} exploring trials and up to {confirm} confirm trials "
        f"({families} families, {spec.confirm.chains} chains); {done} are done.\n"
        f"A full fine-tuning trial at {max(chosen)} labels takes about {seconds:.1f} s here. With {workers} workers: "
        f"{f'about {max(left * seconds / workers / 60, 0.1):.1f} minutes' if left else 'nothing is left to do'}"
        f"{', less what is pruned or frozen' if left else ''}.",
        soft_wrap=True,
        highlight=False,
    )


def _is_finished(home: Home, spec: StudySpec, sizes: list[int]) -> bool:
    if not exists(home.url):
        return False
    storage = open_storage(home.url)
    with storage_errors(home.url):
        if stored_spec(storage, home) is None:
            return False
        check_stored(storage, home, spec)
        # Its budgets may have grown since it was stored.
        return replace(read_results(storage, home, with_outcomes=False), spec=spec).is_finished(sizes)


class _Watch:
    """Shows a study's progress at most once a second, over one connection that keeps what is finished."""

    def __init__(self, home: Home, progress: Progress) -> None:
        self.home = home
        self.progress = progress
        self.storage: BaseStorage | None = None
        self.next = 0.0

    def __call__(self) -> None:
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + 1.0
        with suppress(FrostlineError, SQLAlchemyError, StorageInternalError):  # not made yet, or busy: next time
            if self.storage is None:
                self.storage = open_storage(self.home.url)
            self.progress.update(read_results(self.storage, self.home, with_outcomes=False), self._judge)

    def _judge(self, size: int) -> Verdict | None:
        assert self.storage is not None
        return judge(read_results(self.storage, self.home), size)


def _requeue(home: Home, spec: StudySpec) -> None:
    with suppress(FrostlineError):  # stopped before there was a study
        results = load_results(home, with_outcomes=False)
        TrialQueue(open_storage(home.url), home, spec, num_groups=results.num_groups).requeue_dead()


def _say(console: Console, results: Results, page: Path, *, study: str, storage: str | None, out: Path) -> None:
    verdicts = judge_all(results)
    storage = storage and shown(storage)
    options = (f" --storage {storage}" if storage else "") + (f" --out {out}" if out != OUT else "")
    arguments = (f", storage={storage!r}" if storage else "") + (f", out={str(out)!r}" if out != OUT else "")
    name = results.home.name
    width = console.width if console.is_terminal else None
    for size in sorted(verdicts):
        console.print(answer(verdicts[size], width=width), soft_wrap=True, highlight=False, markup=False)
    if not verdicts:
        console.print("No size is confirmed: there are no verdicts, only the search's own scores.")
    size = max(verdicts or results.sizes)
    flag = "" if verdicts else ", unconfirmed=True"
    for label, text in (
        ("page", str(page)),
        ("dashboard", f"python -m search dashboard {name}{options}"),
        ("import", f'from search import best_strategy; s = best_strategy("{name}", size={size}{arguments}{flag})'),
        ("save", f"python -m search best {name} --size {size}{options} > best.toml"),
    ):
        console.print(f"{label:>10}  {text}", soft_wrap=True, highlight=False, markup=False)


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    # What a worker finds wrong with the task, it finds wrong with this file.
    try:
        yield
    except (SpecError, TaskError) as error:
        raise type(error)(f"{file}: {error}") from None


@contextmanager
def _stopping() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one leaves at once
        raise Stopped(128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
