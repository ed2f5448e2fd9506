"""The command line. It starts quickly, so commands import heavy modules themselves."""

import sys
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from search.errors import FrostlineError, SpecError, printable
from search.workers.signals import stoppable

if TYPE_CHECKING:
    from search.spec.values import Size
    from search.storage.location import StudyLocation

app = typer.Typer(
    name="frostline",
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Find which freezing strategy wins at each data-set size, and how sure that is.",
    epilog="`frostline ...` and `python -m search ...` are the same.",
)


class Format(StrEnum):
    """Formats in which `best` prints a strategy."""

    TOML = "toml"
    JSON = "json"
    PYTHON = "python"


class Engine(StrEnum):
    """Places where `run` runs its trials."""

    LOCAL = "local"
    RAY = "ray"


Spec = Annotated[str, typer.Argument(metavar="SPEC", help="A study file, or the name of one.")]
Study = Annotated[str, typer.Argument(metavar="STUDY", help="A study's name or its study file.")]
DATABASE = "The database, if not the study's own SQLite file: a URL, or env:VARIABLE with the URL in it."
Storage = Annotated[str | None, typer.Option(metavar="URL", help=DATABASE)]
Sizes = Annotated[str | None, typer.Option(metavar="N,N,...", help="Only these of the study's sizes.")]
Workers = Annotated[int, typer.Option(min=1, max=64, help="Local worker processes.")]
REPEATS = "Repeats of the race, instead of the file's. More than a study has continue it."
EXTEND = "Draw new repeats from all labels, where some were added to the data."
TIME_LIMIT = "End within this time, as 2h, 90m or 3600s, with a verdict at each size."
CLUSTER = 'The Ray cluster: "auto" or HOST:PORT. By default one on this machine.'
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder of all studies: results are in DIR/<name>/.")]
DEFAULT_OUT = Path("studies")


@app.command()
def run(
    spec: Spec = "digits",
    storage: Storage = None,
    sizes: Sizes = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials at each size, instead of the file's.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help=REPEATS)] = None,
    extend: Annotated[bool, typer.Option("--extend", help=EXTEND)] = False,
    time_limit: Annotated[str | None, typer.Option(metavar="TIME", help=TIME_LIMIT)] = None,
    workers: Workers = 2,
    out: Out = DEFAULT_OUT,
    seed: Annotated[int | None, typer.Option(min=0, help="The seed, instead of the file's.")] = None,
    engine: Annotated[Engine, typer.Option(help="Where workers run: this machine, or a Ray cluster.")] = Engine.LOCAL,
    address: Annotated[str | None, typer.Option(metavar="ADDRESS", help=CLUSTER)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would run, and for how long.")] = False,
) -> None:
    """Run a study: explore every size, confirm the candidates, print the verdicts.

    Safe to interrupt: run the same command again to resume.
    """
    began = monotonic()
    with stoppable():
        from rich.console import Console

        from search.run import estimate, run_study
        from search.run import extend as extend_study
        from search.run_config import RunConfig
        from search.study.time_limit import Limit

        limit = None if time_limit is None else Limit.of(time_limit, began=began)
        config = RunConfig.of(
            spec,
            storage=storage,
            sizes=_sizes(sizes),
            trials=trials,
            repeats=repeats,
            workers=workers,
            out=out,
            seed=seed,
            engine=engine.value,
            address=address,
            limit=limit,
        ).resuming(repeats)
        console = Console()
        if extend and not dry_run:
            extend_study(config, console=console)
        (estimate if dry_run else run_study)(config, console=console)


@app.command()
def worker(
    spec: Spec, storage: Storage = None, sizes: Sizes = None, workers: Workers = 1, out: Out = DEFAULT_OUT
) -> None:
    """Join a study and run its trials until none is left, from any machine.

    The machine must reach the study's database. Safe to interrupt: its trials go back into the queue.
    """
    with stoppable():
        from rich.console import Console

        from search.run import train
        from search.run_config import RunConfig
        from search.storage.retry import FIRST_PATIENCE_SECONDS, PATIENCE_SECONDS, retrying

        config = RunConfig.of(spec, storage=storage, sizes=_sizes(sizes), workers=workers, out=out)
        # Nobody may be there to start it again if it comes up while the database is restarted.
        config = retrying(config.joining, patience=FIRST_PATIENCE_SECONDS, notify=print)
        train(config, console=Console(), patience=PATIENCE_SECONDS)
    print(f"No trial is left of {config.location.name!r} at sizes {', '.join(map(str, config.sizes))}.")


@app.command()
def report(study: Study = "digits", storage: Storage = None, out: Out = DEFAULT_OUT) -> None:
    """Write a study's page (report.html), trials.csv and verdict.csv again."""
    from search.report.page import write_report
    from search.verdict.judge import judge_all
    from search.verdict.load import load_results

    results = load_results(_location(study, storage, out))
    page = write_report(results, judge_all(results))
    for file in (page, page.with_name("trials.csv"), page.with_name("verdict.csv")):
        print(file)


@app.command()
def best(
    study: Study,
    size: Annotated[str, typer.Option(metavar="N", help='Labelled examples to train on, or "all".')],
    format: Annotated[Format, typer.Option(help="Output format.")] = Format.TOML,
    unconfirmed: Annotated[
        bool, typer.Option("--unconfirmed", help="Use the search's best trial where nothing is confirmed yet.")
    ] = False,
    storage: Storage = None,
    out: Out = DEFAULT_OUT,
) -> None:
    """Print the recommended strategy at a size, to save or to paste.

    The size may also be between two sizes of the study.
    """
    from search.verdict.best import find_best
    from search.verdict.load import load_results
    from strategies import format_strategy

    wanted = int(size) if size.isdecimal() and len(size) < 10 else size
    found = find_best(load_results(_location(study, storage, out)), wanted, unconfirmed=unconfirmed)
    print(format_strategy(found.strategy, format.value, provenance=found.provenance), end="")


@app.command()
def dashboard(
    study: Study = "digits",
    storage: Storage = None,
    out: Out = DEFAULT_OUT,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8080,
    allow_writes: Annotated[
        bool, typer.Option("--allow-writes", help="Allow deleting studies and writing notes.")
    ] = False,
) -> None:
    """Serve optuna-dashboard on a study's database, on this machine only and read-only."""
    from search.report.dashboard import serve

    try:
        serve(_location(study, storage, out), port=port, allow_writes=allow_writes)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.command()
def groups(spec: Spec = "digits") -> None:
    """Show a study's layer groups: contents, cost, and the parameters that each freeze depth trains."""
    import warnings

    from rich.console import Console

    from search.spec.study_spec import StudySpec, find_study_file
    from search.task.summary import summarize, table

    file = find_study_file(spec)
    study = StudySpec.from_file(file)
    warnings.filterwarnings("ignore")
    try:
        rows = summarize(study)
    except FrostlineError as error:
        raise type(error)(f"{file}: {error}") from None
    print(f"{study.model.backbone}: {len(rows) - 1} layer groups; a freeze depth of k keeps the first k frozen.")
    Console().print(table(rows), highlight=False, markup=False)


@app.command(name="list")
def list_studies(storage: Storage = None, out: Out = DEFAULT_OUT) -> None:
    """List the studies with their progress."""
    from search.storage.url import redacted
    from search.verdict.judge import judge_all
    from search.verdict.load import list_studies, load_results

    locations = list_studies(out=out, storage=storage)
    if not locations:
        print(f"No studies in {redacted(storage) if storage else out}.")
    for location in locations:
        try:
            results = load_results(location)
        except FrostlineError as error:
            print(f"{location.name}: {error}")
            continue
        finished = sum(row.is_finished for row in results.every_row)
        confirmed = ", ".join(map(str, judge_all(results))) or "none"
        sizes = ", ".join(map(str, results.sizes))
        print(f"{location.name}: sizes {sizes}; {finished} finished trials; confirmed: {confirmed}")


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The study's name; writes studies/NAME.toml.")],
) -> None:
    """Write a commented study file as a starting point."""
    from search.spec.starter import starter
    from search.spec.study_spec import NAME, NAMES

    file = Path(name) if name.endswith(".toml") else Path("studies") / f"{name}.toml"
    if not NAME.fullmatch(file.stem) or (file.parent != Path("studies") and not name.endswith(".toml")):
        raise SpecError(f"{name[:120]!r} can't name a study: {NAMES}.")
    if file.exists():
        raise SpecError(f"{file} exists already; nothing was written. Choose another name, or delete the file.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(starter(printable(name)), encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{file}: can't be written: {error.strerror}.") from None
    print(f"{file}: edit it, then `python -m search run {name}`.")


def main() -> NoReturn:
    """Run the command line; a user's mistake is one line and exit code 2."""
    code: int | None = 0
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except (typer.TyperException, FrostlineError) as error:
        message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
        print(f"Error: {printable(' '.join(message.split()))}", file=sys.stderr)
        code = 2
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:
        code = 1
    except OSError as error:  # no room for a page or a table
        from search.files import is_refused

        if not is_refused(error):
            raise
        print(f"Error: {error.filename or 'a file'} can't be written: {error.strerror}.", file=sys.stderr)
        code = 2
    sys.exit(code)


def _location(study: str, storage: str | None, out: Path) -> "StudyLocation":
    from search.storage.location import StudyLocation
    from search.verdict.best import study_name

    return StudyLocation.of(study_name(study), out=out, storage=storage)


def _sizes(text: str | None) -> "list[Size] | None":
    from search.spec.values import sort_sizes

    if text is None:
        return None
    try:
        return sort_sizes({"all" if part.strip() == "all" else int(part) for part in text.split(",")})
    except ValueError:
        raise SpecError(f'--sizes {text!r} is not a list of whole numbers, like 50,200, or "all".') from None
