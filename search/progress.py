"""How far a study is, shown while others work on it."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from threading import Event, Thread
from typing import Self

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from sqlalchemy.exc import SQLAlchemyError

from search.errors import FrostlineError, StorageError
from search.report.terminal import Progress
from search.run_config import RunConfig
from search.storage.database import open_storage
from search.storage.rdb import leased_storage
from search.verdict.load import read_results

EVERY = 1.0
"""Seconds between two looks."""
SILENCE = 30.0
"""Seconds for which a look may go without an answer before the user is told."""
LAST_LOOK = 10.0
"""Seconds for the look at what there is in the end."""


class ProgressPoller:
    """Shows a study's progress from a thread of its own, over one connection that keeps what is finished.

    Used as a context, in which its owner calls `check` now and then. What a database does not answer, or is slow to,
    then holds up neither Ctrl-C nor whatever else its owner does.
    """

    def __init__(self, job: RunConfig, progress: Progress, say: Callable[[str], None]) -> None:
        self.job = job
        self.progress = progress
        self.say = say
        self.file = job.location.database.file
        self._inode: int | None = None  # of the file as it was first seen
        self._answered = time.monotonic()
        self._silent = False
        self._error: Exception | None = None
        self._ended = Event()
        self._thread = Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._ended.set()
        self._thread.join(timeout=LAST_LOOK if kind is None else 0.1)

    def check(self) -> None:
        """Say where the database is silent. Raises `StorageError` where its file has gone, and what the thread met."""
        if self._error is not None:
            raise self._error
        self._check_file()
        silent = time.monotonic() - self._answered > SILENCE
        if silent != self._silent:
            self._silent = silent
            self.say(f"the database has not answered for {SILENCE:.0f} s." if silent else "the database answers again.")

    def _check_file(self) -> None:
        # Processes that have it open would write on into what nobody will ever read.
        if self.file is None:
            return
        there = self.file.stat().st_ino if self.file.exists() else None
        if self._inode is not None and there != self._inode:
            raise StorageError(f"{self.file} was deleted or replaced while the study ran; what it held is lost.")
        self._inode = there

    def _run(self) -> None:
        storage: BaseStorage | None = None
        ended = False
        try:
            while not ended:
                ended = self._ended.wait(EVERY)
                with suppress(
                    FrostlineError, SQLAlchemyError, StorageInternalError
                ):  # not made yet, or busy: next time
                    storage = storage or open_storage(self.job.location.database)
                    self._show(storage)
                self._answered = time.monotonic()
        except Exception as error:
            self._error = error
        finally:
            if storage is not None:
                leased_storage(storage).engine.dispose()

    def _show(self, storage: BaseStorage) -> None:
        # With this run's budgets: the stored ones are still the old ones when it begins.
        self.progress.update(replace(read_results(storage, self.job.location), spec=self.job.spec))
