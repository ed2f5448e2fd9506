"""The command line of the simulated studies; see the package's docstring."""

from importlib import import_module
from typing import Annotated

import typer
from rich.console import Console

REPORTS = {
    "power": ("false winners, and how often a true lead is found", 300),
    "collapse": ("the leader's interval where some runs fail to train", 300),
    "raced": ("studies whose race stops candidates early, by labels that were not drawn", 200),
    "coverage": ("intervals, verdicts and scores against the truth", 300),
    "ways": ("a held-out fifth beside cross-validation, by the labels in all", 150),
    "explored": ("by how much cross-validation favours what was explored on its labels", 300),
}
"""Reports: a module here, its subject, and how many studies it simulates of each kind by default."""

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def simulation() -> None:
    """Simulate studies whose truth is known."""


def _add(name: str, tells: str, studies: int) -> None:
    def report(studies: Annotated[int, typer.Option(help="Studies of each kind.")] = studies) -> None:
        for text in import_module(f"tests.simulation.{name}").report(count=studies):
            Console(width=180).print(text)

    app.command(name, help=f"Print {tells}.")(report)


for _name, (_tells, _studies) in REPORTS.items():
    _add(_name, _tells, _studies)


if __name__ == "__main__":
    app()
