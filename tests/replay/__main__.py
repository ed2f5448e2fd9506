"""The command line of the replay table; see the package's docstring."""

import os
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.replay.grid import TASKS
from tests.replay.table import TABLES, Table

REPORTS = {
    "summary": ("which family wins where, and what the literature says of it", 1),
    "pruners": ("PhasePruner against Optuna's own", 100),
    "samplers": ("which search reaches a good strategy soonest, at equal seconds", 50),
    "stops": ("which epoch to stop at: of the lowest validation loss, the last, or chosen over repeats", 400),
    "values": ("which value of a trial steers a short search best", 20),
}
"""Reports: a module here, its subject, and the number of studies a table that it replays by default."""

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
ASSETS = Path(os.environ.get("FROSTLINE_ASSETS", Path(__file__).parents[2].parent / "shared" / "assets"))


@app.callback()
def replay() -> None:
    """Replay searches and verdicts against strategies that were all trained once."""


@app.command("fill")
def fill_tables(
    task: Annotated[list[str] | None, typer.Option(help="A task; may be given again. All by default.")] = None,
    cells: Annotated[Path, typer.Option(help="Where trained blocks are kept.")] = Path("replay"),
    repeats: Annotated[int, typer.Option(help="Repeats of the small tasks.")] = 10,
    dear_repeats: Annotated[int, typer.Option(help="Repeats of real backbones; 0 packs what is trained.")] = 6,
    workers: int = 2,
) -> None:
    """Train what is not trained yet, and pack it into tests/replay/tables."""
    from tests.replay.fill import fill

    fill(
        cells.resolve(),
        assets=ASSETS.resolve(),
        tasks=task or list(TASKS),
        repeats=repeats,
        dear_repeats=dear_repeats,
        workers=workers,
    )


@app.command("schedulers")
def compare_schedulers(
    task: Annotated[list[str] | None, typer.Option(help="A task; may be given again.")] = None,
    cells: Annotated[Path, typer.Option(help="Where scores of trained runs are kept.")] = Path("replay"),
    repeats: int = 5,
) -> None:
    """Train baselines at two rates with a constant and a cosine scheduler, and compare them."""
    from tests.replay.schedulers import report

    tasks = task or ["digits", "vowels"]
    for text in report(tasks, folder=cells.resolve(), assets=ASSETS.resolve(), repeats=repeats):
        Console(width=160).print(text)


@app.command("arena")
def play_arena(
    task: Annotated[list[str] | None, typer.Option(help="A task; may be given again. All by default.")] = None,
    runs: Annotated[int, typer.Option(help="Halvings of each table's draws.")] = 10,
) -> None:
    """Play whole designs of a study against each other: what they choose, and what it costs."""
    from tests.replay.arena import report

    for text in report(_tables(), studies=runs, tasks=task or ()):
        Console(width=180).print(text)


@app.command("portfolio")
def write_portfolio() -> None:
    """Write the product's portfolio, made from all tables."""
    from tests.replay.portfolio import write

    print(write(_tables()))


def _tables() -> list[Table]:
    return [Table.load(task) for task in TASKS if (TABLES / f"{task}.npz").is_file()]


def _add(name: str, tells: str, studies: int) -> None:
    def report(runs: Annotated[int, typer.Option(help="Studies replayed on each table.")] = studies) -> None:
        for text in import_module(f"tests.replay.{name}").report(_tables(), studies=runs):
            Console(width=160).print(text)

    app.command(name, help=f"Print {tells}.")(report)


for _name, (_tells, _studies) in REPORTS.items():
    _add(_name, _tells, _studies)


if __name__ == "__main__":
    app()
