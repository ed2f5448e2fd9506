"""The command line of the replay table; see the package's docstring."""

import os
from pathlib import Path
from typing import Annotated

import typer

from tests.replay.grid import TASKS

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
ASSETS = Path(os.environ.get("FROSTLINE_ASSETS", Path(__file__).parents[2].parent / "shared" / "assets"))


@app.callback()
def replay() -> None:
    """Replay searches and verdicts against strategies that were all trained once."""


@app.command("fill")
def fill_tables(
    tasks: Annotated[list[str] | None, typer.Argument()] = None,
    cells: Annotated[Path, typer.Option(help="Where trained blocks are kept.")] = Path("replay"),
    chains: Annotated[int, typer.Option(help="Chains of the small tasks.")] = 20,
    dear_chains: Annotated[int, typer.Option(help="Chains of MobileNetV2.")] = 6,
    workers: int = 2,
) -> None:
    """Train what is not trained yet, and pack it into tests/replay/tables."""
    from tests.replay.fill import fill

    fill(
        cells.resolve(),
        assets=ASSETS.resolve(),
        tasks=tasks or list(TASKS),
        chains=chains,
        dear_chains=dear_chains,
        workers=workers,
    )


if __name__ == "__main__":
    app()
