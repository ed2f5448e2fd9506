"""Ownership of a trial by a process, shown by a lock file."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from search.storage.location import StudyLocation
from search.storage.locks import lock_file, try_lock, unlock_file


@dataclass(frozen=True, slots=True)
class WorkerLease:
    """A process that runs trials: its host, and the lock that it holds.

    The lock needs no clock, heartbeat or process number. Only its host sees it; other hosts see a `Heartbeat`.

    parent: the token of the process that started this one and watches over it, empty where there is none.
    """

    host: str
    token: str
    parent: str = ""

    @classmethod
    def new(cls, *, parent: str = "") -> "WorkerLease":
        return cls(this_host(), uuid4().hex, parent)

    @classmethod
    def parse(cls, text: object) -> "WorkerLease | None":
        """Return the owner that a trial's attribute names; None where it names none."""
        found = re.fullmatch(r"(.*)/([0-9a-f]{32})/([0-9a-f]{32}|)", text) if isinstance(text, str) else None
        return None if found is None else cls(*found.groups())

    def __str__(self) -> str:
        return f"{self.host}/{self.token}/{self.parent}"

    @contextmanager
    def held(self, location: StudyLocation) -> Iterator["WorkerLease"]:
        """Hold the lock until the block, or the process, ends.

        With a server the file then stays until `sweep`: its free lock shows this host that the owner has exited.
        """
        file = self.file(location)
        descriptor = lock_file(file)
        try:
            yield self
        finally:
            if location.is_local:  # a missing file is proof enough
                unlock_file(file, descriptor)
            else:
                os.close(descriptor)

    def file(self, location: StudyLocation) -> Path:
        """Return the lock file, named by its folder's inode: a copied folder lacks it.

        All locks of a copy are free, and would make the original's owners look exited.
        """
        location.locks.mkdir(parents=True, exist_ok=True)
        return location.locks / f"owner-{self.token}.{location.locks.stat().st_ino:x}.lock"

    def has_exited(self, location: StudyLocation) -> bool:
        """Return whether the process is known to have ended, on its own host and folder."""
        if not location.is_local and self.host != this_host():
            return False
        try:
            with try_lock(self.file(location)) as is_free:
                return is_free
        except FileNotFoundError:
            return location.is_local  # all locks are beside a SQLite file; with a server, it may be in another folder

    def parent_has_exited(self, location: StudyLocation) -> bool:
        """Return whether an exited process's parent exited too, which clears its trial."""
        return bool(self.parent) and WorkerLease(self.host, self.parent).has_exited(location)


def sweep(location: StudyLocation) -> None:
    """Remove the lock files of exited processes, once none of their trials is running."""
    for file in location.locks.glob("owner-*.lock"):
        with suppress(FileNotFoundError), try_lock(file) as is_free:
            if is_free:
                file.unlink(missing_ok=True)


def this_host() -> str:
    """Return this host's name and boot, which tell hosts of one name apart."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    name = socket.gethostname()
    return f"{name}-{boot.read_text()[:8]}" if boot.is_file() else name
