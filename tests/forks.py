"""Processes forked from one that has imported torch and Lightning, which takes seconds in each that starts plainly."""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.context import ForkServerContext, ForkServerProcess
from types import SimpleNamespace
from typing import Any

import pytest

from search.workers import local

multiprocessing.set_forkserver_preload(
    [
        *(f"search.workers.{name}" for name in ("trial", "worker")),
        *(f"search.training.{name}" for name in ("own_steps", "precision", "source_task")),
        *("tests.faults.worker", "alembic.command", "psycopg"),
    ]
)


class Process(ForkServerProcess):
    """A process with the environment of now, not of the first one's start."""

    def __init__(self, *, target: Callable[..., None], args: tuple[Any, ...], **options: Any) -> None:
        super().__init__(target=_run, args=(dict(os.environ), target, args), **options)


class Forks(ForkServerContext):
    """A context of multiprocessing."""

    Process = Process


FORKS = Forks()


def _run(environment: dict[str, str], target: Callable[..., None], args: tuple[Any, ...]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    target(*args)


def fork_workers(patch: pytest.MonkeyPatch) -> None:
    """Fork the local workers of a study, instead of spawning them."""
    context = SimpleNamespace(get_context=lambda _: FORKS, parent_process=multiprocessing.parent_process)
    patch.setattr(local, "multiprocessing", context)
