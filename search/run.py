"""The main job: a study file in; a study, a verdict per size, a page and a strategy to import out."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from shlex import quote
from threading import Thread
from types import FrameType
from typing import Literal, Self

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from search.display import Progress, answer
from search.errors import FrostlineError, SpecError, StorageError, StudyError, TaskError
from search.home import OUT, Home, sqlite_file
from search.report import write_report
from search.results import load_results, read_results, stored_spec
from search.rows import Results
from search.shared import PATIENCE, patiently
from search.spec import StudySpec, find_study_file
from search.storage import check_parent, exists, open_storage, shown, storage_errors
from search.study import TrialQueue, check_stored
from search.verdict import Verdict, judge, judge_all
from search.workers import run_workers

Engine = Literal["local", "ray"]
"""Where trials run: in worker processes of this machine, or as tasks of a Ray cluster."""


AT_THE_END = 4.0
"""Seconds in which a run that was stopped may put its trials back."""


class Stopped(BaseException):
    """The user asked us to stop; `code` is the exit code for it."""

    def __init__(self, code: int) -> None:
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A study file and the options of a run, checked as far as nothing must be loaded for it."""

    file: Path
    spec: StudySpec
    home: Home
    sizes: list[int]
    workers: int
    engine: Engine = "local"
    address: str | None = None

    @classmethod
    def of(
        cls,
        study: str,
        *,
        storage: str | None = None,
        sizes: list[int] | None = None,
        trials: int | None = None,
        workers: int = 2,
        out: Path = OUT,
        seed: int | None = None,
        engine: Engine = "local",
        address: str | None = None,
    ) -> Self:
        """The job of that study file or name. Raises `SpecError` and `StorageError`."""
        file = find_study_file(study)
        spec = StudySpec.from_file(file)
        search = {key: value for key, value in (("trials", trials), ("seed", seed)) if value is not None}
        if search:
            spec = spec.changed(search=search)
        for size in sizes or []:
            if size not in spec.task.sizes:
                allowed = ", ".join(map(str, spec.task.sizes))
                raise SpecError(f"--sizes {size} is not among the sizes of {file}; allowed: {allowed}.")
        home = Home.of(file.stem, out=out, storage=storage)
        check_parent(home.url, made_by_us=storage is None)
        if address is not None and engine == "local":
            raise SpecError("--address is that of a Ray cluster; it goes with --engine ray.")
        return cls(
            file=file,
            spec=spec,
            home=home,
            sizes=sizes or spec.task.sizes,
            workers=workers,
            engine=engine,
            address=address,
        )

    def joining(self) -> Self:
        """The job with the budgets of the study as it is stored, where those have grown."""
        if not exists(self.home.url):
            return self
        with storage_errors(self.home.url):
            stored = stored_spec(open_storage(self.home.url), self.home)
        if stored is None:
            return self
        ours = self.spec
        spec = ours.changed(
            task={"sizes": sorted({*ours.task.sizes, *stored.task.sizes})},
            search={"trials": max(ours.search.trials, stored.search.trials)},
            confirm={"chains": max(ours.confirm.chains, stored.confirm.chains)},
        )
        return replace(self, spec=spec, sizes=spec.task.sizes if self.sizes == ours.task.sizes else self.sizes)

    def stored(self) -> Results | None:
        """What is stored of the study, seen with the budgets of this job; None if there is nothing yet.

        Raises `StudyError` where it was stored with another spec.
        """
        if not exists(self.home.url):
            return None
        storage = open_storage(self.home.url)
        with storage_errors(self.home.url):
            if stored_spec(storage, self.home) is None:
                return None
            check_stored(storage, self.home, self.spec)
            return replace(read_results(storage, self.home, with_outcomes=False), spec=self.spec)


def run_study(job: Job, *, console: Console) -> None:
    """Run a study to its end, or go on where it stopped, and say what it found.

    Raises `FrostlineError` before anything is written where the task or the storage is not right, and
    `Stopped` after Ctrl-C or SIGTERM, with the trials in flight back in the queue.
    """
    train(job, console=console)
    # A study of days is not to end without its page for a connection that breaks now.
    results = patiently(lambda: load_results(job.home), patience=PATIENCE, say=print)
    verdicts = judge_all(results)
    page = write_report(results)
    from search.dashboard import publish  # a second to import, which a run that begins need not wait for

    publish(results, verdicts)
    _say(console, results, verdicts, page)


def train(job: Job, *, console: Console) -> None:
    """Run trials until none is left at the job's sizes, here and wherever else workers have joined the study.

    Raises as `run_study` does.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    stored = job.stored()
    if stored is None or not stored.is_finished(job.sizes):
        with _stopping() as check_stopped, Progress(console, job.sizes) as progress:
            watch = _Watch(job, progress)

            def tick() -> None:
                check_stopped()
                watch()

            def say(note: str) -> None:
                console.print(f"Note: {note}", soft_wrap=True, markup=False, highlight=False)

            try:
                with _naming(job.file):
                    _engine(job)(job.spec, job.home, job.sizes, tick=tick, say=say)
            except BaseException:  # stopped, or an error: the workers are gone, what they had in hand goes back
                # If the database answers; if not, the next run finds what is left of them.
                requeue = Thread(target=_requeue, args=[job], daemon=True)
                requeue.start()
                requeue.join(timeout=AT_THE_END)
                raise


def estimate(job: Job, *, console: Console) -> None:
    """Say what a run would do and about how long it would take, from a few epochs trained here; writes nothing."""
    from search.timing import seconds_per_trial

    spec, sizes, stored = job.spec, job.sizes, job.stored()
    done = sum(row.is_finished and row.size in sizes for row in stored.rows) if stored else 0
    with _naming(job.file):
        num_groups, families, seconds = seconds_per_trial(spec, max(sizes))
    explore = len(sizes) * spec.search.trials
    confirm = len(sizes) * families * spec.confirm.chains
    left = max(explore + confirm - done, 0)
    time_left = f"about {max(left * seconds / job.workers / 60, 0.1):.1f} minutes, less what is pruned or frozen"
    console.print(
        f"Study {job.home.name!r}: data {spec.task.data}, backbone {spec.model.backbone} with {num_groups} layer "
        f"groups.\nSizes {', '.join(map(str, sizes))}: {explore} exploring trials and up to {confirm} confirm trials "
        f"({families} families, {spec.confirm.chains} chains); {done} are done.\n"
        f"A full fine-tuning trial at {max(sizes)} labels takes about {seconds:.1f} s here. With {job.workers} "
        f"workers: {time_left if left else 'nothing is left to do'}.",
        soft_wrap=True,
        highlight=False,
    )


def _engine(job: Job) -> Callable[..., None]:
    if job.engine == "local":
        return partial(run_workers, count=job.workers)
    from search.ray_engine import run_on_ray

    return partial(run_on_ray, address=job.address)


class _Watch:
    """Shows a study's progress at most once a second, over one connection that keeps what is finished."""

    def __init__(self, job: Job, progress: Progress) -> None:
        self.job = job
        self.progress = progress
        self.storage: BaseStorage | None = None
        self.file = sqlite_file(job.home.url)
        self.seen: int | None = None  # the file, by its inode
        self.next = 0.0

    def __call__(self) -> None:
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + 1.0
        self._check_file()
        with suppress(FrostlineError, SQLAlchemyError, StorageInternalError):  # not made yet, or busy: next time
            if self.storage is None:
                self.storage = open_storage(self.job.home.url)
            self.progress.update(self._results(with_outcomes=False), self._judge)

    def _check_file(self) -> None:
        # Processes that have it open would write on into what nobody will ever read.
        if self.file is None:
            return
        there = self.file.stat().st_ino if self.file.exists() else None
        if self.seen is not None and there != self.seen:
            raise StorageError(f"{self.file} was deleted or replaced while the study ran; what it held is lost.")
        self.seen = there

    def _judge(self, size: int) -> Verdict | None:
        return judge(self._results(with_outcomes=True), size)

    def _results(self, *, with_outcomes: bool) -> Results:
        # With this run's budgets: the stored ones are still the old ones when it begins.
        assert self.storage is not None
        return replace(read_results(self.storage, self.job.home, with_outcomes=with_outcomes), spec=self.job.spec)


def _requeue(job: Job) -> None:
    with suppress(FrostlineError):  # stopped before there was a study
        stored = load_results(job.home, with_outcomes=False)
        with storage_errors(job.home.url):
            TrialQueue(
                open_storage(job.home.url),
                job.home,
                stored.spec,  # not the job's: a run that was refused changes no budgets
                num_groups=stored.num_groups,
                kind=stored.kind,
                groups=stored.groups,
            ).requeue_dead()


def _say(console: Console, results: Results, verdicts: Mapping[int, Verdict], page: Path) -> None:
    name, out = results.home.name, results.home.folder.parent
    storage = None if results.home.storage is None else shown(results.home.storage)
    options = (f" --storage {quote(storage)}" if storage else "") + (f" --out {quote(str(out))}" if out != OUT else "")
    arguments = (f", storage={storage!r}" if storage else "") + (f", out={str(out)!r}" if out != OUT else "")
    width = console.width if console.is_terminal else None
    for size in sorted(verdicts):
        console.print(answer(verdicts[size], width=width), soft_wrap=True, highlight=False, markup=False)
    if not any(row.state == "COMPLETE" for row in results.rows):
        raise StudyError(f"Study {name!r} has no complete trial to tell from; {page} shows why.")
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
    except (SpecError, TaskError, StudyError) as error:
        raise type(error)(f"{file}: {error}") from None


@contextmanager
def _stopping() -> Iterator[Callable[[], None]]:
    """Yield what raises `Stopped` when it is called after a Ctrl-C or SIGTERM; a second signal leaves at once.

    The handler itself raises nothing: an exception that strikes inside a library's import leaves half a module behind,
    and one inside a weak reference's callback is lost.
    """
    stopped: list[Stopped] = []

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        stopped.append(Stopped(128 + number))

    def check() -> None:
        if stopped:
            raise stopped[0]

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
