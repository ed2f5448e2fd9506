"""The main command: from a study file to verdicts, a page and a best strategy."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from shlex import quote
from threading import Thread
from time import monotonic

import optuna
from rich.console import Console

from search.errors import FrostlineError, SpecError, StudyError, TaskError
from search.progress import ProgressPoller
from search.report.judging import added
from search.report.page import write_report
from search.report.terminal import Progress, answer
from search.run_config import RunConfig
from search.storage.database import connected
from search.storage.location import OUT, StudyLocation
from search.storage.owner import sweep
from search.storage.retry import PATIENCE_SECONDS, retrying
from search.study.create import store_plan
from search.study.recovery import requeue_dead
from search.study.time_limit import TimeLimit, completed, left_out
from search.verdict.judge import Verdict, judge_all
from search.verdict.load import load_results, read_results
from search.verdict.results import Results
from search.workers.local import run_workers
from search.workers.signals import stopping

REQUEUE_SECONDS = 4.0
"""Time in which a run that was stopped may requeue its trials."""


def run_study(config: RunConfig, *, console: Console) -> None:
    """Run a study to its end, or resume it, and print its verdicts.

    Raises `FrostlineError` before anything is written where the task or the storage is not right. After Ctrl-C or
    SIGTERM it requeues its running trials and raises `Stopped`.
    """
    limit = None if config.limit is None else TimeLimit(config.limit, config.spec, config.sizes, workers=config.room)
    stored = config.stored()
    if stored is not None:
        _store_plan(config, None if limit is None else limit.plan(stored, config.spec, monotonic()))
    if limit is not None:
        limit.check()
    train(config, console=console, limit=limit)
    if limit is not None:
        _settle(config, limit, console=console)
    # A study of days must not end without its page because a connection breaks now.
    notify = partial(_note, console)
    results = retrying(lambda: load_results(config.location), patience=PATIENCE_SECONDS, notify=notify)
    verdicts = judge_all(results)
    page = write_report(results, verdicts)
    from search.report.dashboard import publish  # takes a second, which the start of a run need not wait for

    publish(results, verdicts)
    _print_verdicts(console, results, verdicts, page)


def extend(config: RunConfig, *, console: Console) -> None:
    """Let a stored study draw new repeats from all labels after some were added.

    Raises `StudyError` where old ones are gone, or nothing was added.
    """
    from search.study.create import create_studies
    from search.workers.process import load_task

    before = config.stored()
    if before is None:
        return
    with _naming(config.file), connected(config.location.database) as storage:
        assert storage is not None
        task = load_task(config.spec, config.location)
        create_studies(storage, config.location, config.spec, extend=True, **task.facts)
        now = read_results(storage, config.location)
    if now.extension > before.extension:
        _note(console, f"labels were added: new repeats draw from {now.labels} instead of {before.labels}.")


def train(config: RunConfig, *, console: Console, patience: float = 0.0, limit: TimeLimit | None = None) -> None:
    """Run trials until none is left, here or in other processes that joined the study.

    limit: plans the budgets meanwhile.
    patience: seconds for which the first read waits for the database. Raises as `run_study` does.
    """
    notify = partial(_note, console)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # its warnings of a busy database show the SQL
    stored = retrying(config.stored, patience=patience, notify=notify)
    if stored is not None and stored.is_finished(config.sizes):
        return
    with (
        stopping() as check_stopped,
        Progress(console, config.sizes) as progress,
        ProgressPoller(config.location, config.spec, progress, notify=notify, limit=limit) as poller,
    ):

        def tick() -> None:
            check_stopped()
            poller.check()

        try:
            with _naming(config.file):
                _engine(config)(config.spec, config.location, config.sizes, tick=tick, notify=notify)
        except BaseException:  # stopped, or an error: the workers have ended
            # Where the database does not answer in time, the next run requeues their trials.
            requeue = Thread(target=_requeue, args=[config.location], daemon=True)
            requeue.start()
            requeue.join(timeout=REQUEUE_SECONDS)
            raise
    sweep(config.location)


def _store_plan(config: RunConfig, plan: tuple[int, int] | None) -> None:
    with connected(config.location.database) as storage:
        assert storage is not None
        store_plan(storage, config.location, plan)


def _settle(config: RunConfig, limit: TimeLimit, *, console: Console) -> None:
    """Keep the budgets that a limited run has spent, and say what is left out."""
    stored = config.stored()
    assert stored is not None
    results = completed(stored.planned(config.spec), config.sizes)
    _store_plan(config, (results.spec.search.trials, results.spec.confirm.repeats))
    console.print(
        left_out(results, config.spec, limit.limit, monotonic()), soft_wrap=True, markup=False, highlight=False
    )


def estimate(config: RunConfig, *, console: Console) -> None:
    """Print what a run would do and about how long it would take; write nothing.

    The time is estimated from a few epochs trained here.
    """
    from search.study.portfolio import portfolio
    from search.study.space import baselines
    from search.training.timing import seconds_per_trial

    spec, stored = config.spec, config.stored()
    with _naming(config.file):
        task, seconds = seconds_per_trial(spec)
    num_groups, every, facts = task.num_groups, task.sizes, task.facts
    for note in task.data.notes:
        _note(console, note)
    known = Results(
        location=config.location, spec=spec, num_groups=num_groups, rows=(), all=facts["all"],
        unexplored=frozenset(facts["unexplored"]), baselines=tuple(baselines(spec, num_groups=num_groups)),
        portfolio=tuple(portfolio(spec, num_groups=num_groups)),
    )  # fmt: skip
    results = stored or known
    sizes = [size for size in every if size in map(known.size, config.sizes)]
    explore = spec.search.trials * sum(size not in known.unexplored for size in sizes)
    confirm = sum(results.most_confirms(size) for size in sizes)
    how = f" ({spec.confirm.repeats} repeats of the best candidates)" if confirm else ""
    done = sum(row.is_finished for size in sizes for row in [*results.explored(size), *results.confirmed(size)])
    left = max(explore + confirm - done, 0)
    minutes = max(left * seconds / config.workers / 60, 0.1)
    time_left = f"about {minutes:.1f} minutes, less for pruned trials and frozen layers"
    console.print(
        f"Study {config.location.name!r}: data {spec.task.data}, backbone {spec.model.backbone} with {num_groups} "
        f"layer groups.\nSizes {', '.join(map(str, sizes))}: {explore} exploring trials and up to {confirm} confirm "
        f"trials{how}; {done} are done.\n"
        f"A full fine-tuning trial at {max(sizes)} labels takes about {seconds:.1f} s here. With {config.workers} "
        f"workers: {time_left if left else 'nothing is left to do'}.",
        soft_wrap=True,
        highlight=False,
    )


def _note(console: Console, note: str) -> None:
    console.print(f"Note: {note}", soft_wrap=True, markup=False, highlight=False)


def _engine(config: RunConfig) -> Callable[..., None]:
    if config.engine == "local":
        return partial(run_workers, count=config.workers)
    from search.workers.ray_engine import run_on_ray

    return partial(run_on_ray, address=config.address)


def _requeue(location: StudyLocation) -> None:
    with suppress(FrostlineError), connected(location.database) as storage:
        if storage is not None:
            requeue_dead(storage, location)
        sweep(location)


def _print_verdicts(console: Console, results: Results, verdicts: Mapping[int, Verdict], page: Path) -> None:
    name, out = results.location.name, results.location.folder.parent
    storage = results.location.storage
    options = (f" --storage {quote(storage)}" if storage else "") + (f" --out {quote(str(out))}" if out != OUT else "")
    arguments = (f", storage={storage!r}" if storage else "") + (f", out={str(out)!r}" if out != OUT else "")
    width = console.width if console.is_terminal else None
    if verdicts:
        console.print(answer(results, verdicts, width=width), soft_wrap=True, highlight=False, markup=False)
    if not any(row.state == "COMPLETE" for row in results.rows):
        raise StudyError(f"Study {name!r} has no complete trial; {page} shows why.")
    if not verdicts:
        failed = results.spec.confirm.repeats > 0 and results.is_finished(results.sizes)
        reason = "all candidates failed, and the page says why" if failed else "there are only the search's own scores"
        console.print(f"No size is confirmed: {reason}.")
    size = max(verdicts or results.sizes)
    flag = "" if verdicts else ", unconfirmed=True"
    for sentence in added(results, verdicts):
        console.print(sentence, soft_wrap=True, highlight=False, markup=False)
    for label, text in (
        ("page", str(page)),
        ("dashboard", f"python -m search dashboard {name}{options}"),
        ("import", f'from search import best_strategy; s = best_strategy("{name}", size={size}{arguments}{flag})'),
        ("save", f"python -m search best {name} --size {size}{options} > best.toml"),
    ):
        console.print(f"{label:>10}  {text}", soft_wrap=True, highlight=False, markup=False)


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Put the study file's name before the message of an error in it."""
    try:
        yield
    except (SpecError, TaskError, StudyError) as error:
        raise type(error)(f"{file}: {error}") from None
