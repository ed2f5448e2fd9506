"""The main job: a study file in; a study, a verdict per size, a page and a strategy to import out."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from shlex import quote
from threading import Thread

import optuna
from rich.console import Console

from search.errors import FrostlineError, SpecError, StudyError, TaskError
from search.progress import ProgressPoller
from search.report.page import write_report
from search.report.terminal import Progress, answer
from search.run_config import RunConfig
from search.storage.database import connected
from search.storage.location import OUT
from search.storage.owner import sweep
from search.storage.retry import PATIENCE_SECONDS, retrying
from search.study.recovery import requeue_dead
from search.verdict.judge import Verdict, judge_all
from search.verdict.load import load_results
from search.verdict.results import Results
from search.workers.local import run_workers
from search.workers.signals import stopping

AT_THE_END = 4.0
"""Seconds in which a run that was stopped may put its trials back."""


def run_study(job: RunConfig, *, console: Console) -> None:
    """Run a study to its end, or go on where it stopped, and say what it found.

    Raises `FrostlineError` before anything is written where the task or the storage is not right, and
    `Stopped` after Ctrl-C or SIGTERM, with the trials in flight back in the queue.
    """
    train(job, console=console)
    say = partial(_note, console)
    # A study of days is not to end without its page for a connection that breaks now.
    results = retrying(lambda: load_results(job.location), patience=PATIENCE_SECONDS, notify=say)
    verdicts = judge_all(results)
    page = write_report(results, verdicts)
    from search.report.dashboard import publish  # a second to import, which a run that begins need not wait for

    publish(results, verdicts)
    _say(console, results, verdicts, page)


def train(job: RunConfig, *, console: Console, patience: float = 0.0) -> None:
    """Run trials until none is left at the job's sizes, here and wherever else workers have joined the study.

    The first look at the database waits for it for `patience` seconds. Raises as `run_study` does.
    """
    say = partial(_note, console)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # of a database that is busy it warns, with the SQL
    stored = retrying(job.stored, patience=patience, notify=say)
    if stored is None or not stored.is_finished(job.sizes):
        with (
            stopping() as check_stopped,
            Progress(console, job.sizes) as progress,
            ProgressPoller(job, progress, say) as watch,
        ):

            def tick() -> None:
                check_stopped()
                watch.check()

            try:
                with _naming(job.file):
                    _engine(job)(job.spec, job.location, job.sizes, tick=tick, say=say)
            except BaseException:  # stopped, or an error: the workers are gone, what they had in hand goes back
                # If the database answers; if not, the next run finds what is left of them.
                requeue = Thread(target=_requeue, args=[job], daemon=True)
                requeue.start()
                requeue.join(timeout=AT_THE_END)
                raise
    sweep(job.location)


def estimate(job: RunConfig, *, console: Console) -> None:
    """Say what a run would do and about how long it would take, from a few epochs trained here; writes nothing."""
    from search.training.timing import seconds_per_trial

    spec, sizes, stored = job.spec, job.sizes, job.stored()
    with _naming(job.file):
        num_groups, families, seconds = seconds_per_trial(spec, max(sizes))
    explore = len(sizes) * spec.search.trials
    results = (
        replace(stored, spec=spec)
        if stored
        else Results(location=job.location, spec=spec, num_groups=num_groups, rows=())
    )
    confirm = sum(results.most_confirms(size, families=families) for size in sizes)
    how = f" ({spec.confirm.repeats} repeats of each family, play-offs)" if confirm else ""
    done = sum(row.is_finished for size in sizes for row in [*results.explored(size), *results.confirmed(size)])
    left = max(explore + confirm - done, 0)
    time_left = f"about {max(left * seconds / job.workers / 60, 0.1):.1f} minutes, less what is pruned or frozen"
    console.print(
        f"Study {job.location.name!r}: data {spec.task.data}, backbone {spec.model.backbone} with {num_groups} layer "
        f"groups.\nSizes {', '.join(map(str, sizes))}: {explore} exploring trials and up to {confirm} confirm "
        f"trials{how}; {done} are done.\n"
        f"A full fine-tuning trial at {max(sizes)} labels takes about {seconds:.1f} s here. With {job.workers} "
        f"workers: {time_left if left else 'nothing is left to do'}.",
        soft_wrap=True,
        highlight=False,
    )


def _note(console: Console, note: str) -> None:
    console.print(f"Note: {note}", soft_wrap=True, markup=False, highlight=False)


def _engine(job: RunConfig) -> Callable[..., None]:
    if job.engine == "local":
        return partial(run_workers, count=job.workers)
    from search.workers.ray_engine import run_on_ray

    return partial(run_on_ray, address=job.address)


def _requeue(job: RunConfig) -> None:
    with suppress(FrostlineError), connected(job.location.database) as storage:
        if storage is not None:
            requeue_dead(storage, job.location)
        sweep(job.location)


def _say(console: Console, results: Results, verdicts: Mapping[int, Verdict], page: Path) -> None:
    name, out = results.location.name, results.location.folder.parent
    storage = results.location.storage
    options = (f" --storage {quote(storage)}" if storage else "") + (f" --out {quote(str(out))}" if out != OUT else "")
    arguments = (f", storage={storage!r}" if storage else "") + (f", out={str(out)!r}" if out != OUT else "")
    width = console.width if console.is_terminal else None
    for size in sorted(verdicts):
        console.print(answer(verdicts[size], width=width), soft_wrap=True, highlight=False, markup=False)
    if not any(row.state == "COMPLETE" for row in results.rows):
        raise StudyError(f"Study {name!r} has no complete trial to tell from; {page} shows why.")
    if not verdicts:
        failed = results.spec.confirm.repeats > 0 and results.is_finished(results.sizes)
        way = "all candidates failed, and the page says why" if failed else "there are only the search's own scores"
        console.print(f"No size is confirmed: {way}.")
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
