"""Progress of a study, shown while workers run its trials."""

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
from search.spec.study_spec import StudySpec
from search.storage.database import open_storage
from search.storage.location import StudyLocation
from search.storage.rdb import leased_storage
from search.study.create import store_plan
from search.study.time_limit import TimeLimit
from search.verdict.load import read_results

POLL_SECONDS = 1.0
"""Time between two reads of the study."""
SILENCE_SECONDS = 30.0
"""Time for which the database may not answer before the user is notified."""
FINAL_READ_SECONDS = 10.0
"""Time for the last read, after the workers have ended."""


class ProgressPoller:
    """A thread that reads a study over its own connection and shows its progress.

    Used as a context, whose owner calls `check` about twice a second. A database that does not answer, or is slow, then
    delays neither Ctrl-C nor anything else its owner does. `spec` has this run's budgets, which the study stores later.
    `limit` plans them again at each read.
    """

    def __init__(
        self,
        location: StudyLocation,
        spec: StudySpec,
        progress: Progress,
        *,
        notify: Callable[[str], None],
        limit: TimeLimit | None = None,
    ) -> None:
        self.location = location
        self.spec = spec
        self.progress = progress
        self.notify = notify
        self.limit = limit
        self.file = location.database.file
        self._inode: int | None = None  # of the file when it was first seen
        self._answered = time.monotonic()
        self._silent = False
        self._error: Exception | None = None
        self._ended = Event()
        self._thread = Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._ended.set()
        self._thread.join(timeout=FINAL_READ_SECONDS if kind is None else 0.1)

    def check(self) -> None:
        """Notify the user of a silent database.

        Raises `StorageError` if its file is gone, `StudyError` if the time limit is too short.
        """
        if self._error is not None:
            raise self._error
        if self.limit is not None:
            self.limit.check()
        self._check_file()
        silent = time.monotonic() - self._answered > SILENCE_SECONDS
        if silent != self._silent:
            self._silent = silent
            missing = f"the database has not answered for {SILENCE_SECONDS:.0f} s."
            self.notify(missing if silent else "the database answers again.")

    def _check_file(self) -> None:
        # Processes that have the file open would write on into what nobody will ever read.
        if self.file is None:
            return
        inode = self.file.stat().st_ino if self.file.exists() else None
        if self._inode is not None and inode != self._inode:
            raise StorageError(f"{self.file} was deleted or replaced while the study ran; its trials are lost.")
        self._inode = inode

    def _run(self) -> None:
        storage: BaseStorage | None = None
        ended = False
        try:
            while not ended:
                ended = self._ended.wait(POLL_SECONDS)
                # Not made yet, or busy: shown at the next read.
                with suppress(FrostlineError, SQLAlchemyError, StorageInternalError):
                    storage = storage or open_storage(self.location.database)
                    self._show(storage)
                self._answered = time.monotonic()
        except Exception as error:
            self._error = error
        finally:
            if storage is not None:
                leased_storage(storage).engine.dispose()

    def _show(self, storage: BaseStorage) -> None:
        stored = read_results(storage, self.location)
        results = stored.planned(self.spec)
        if self.limit is not None and (plan := self.limit.plan(results, self.spec, time.monotonic())) is not None:
            store_plan(storage, self.location, plan)
            results = replace(results, plan=plan).planned(self.spec)
        self.progress.update(results)
