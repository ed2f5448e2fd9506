"""Ownership of a trial by a process, shown by a lock file."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from search.storage.location import StudyLocation


@dataclass(frozen=True, slots=True)
class WorkerLease:
    """A process that runs trials: a host and a lock that it holds as long as it lives.

    The lock needs no clock, no heartbeat and no process number that may be taken again, but only this host sees it:
    what other hosts see is in `search.storage.heartbeat`. `run` is the token of the process that started this one and
    watches over it, empty where there is none.
    """

    host: str
    token: str
    run: str = ""

    @classmethod
    def new(cls, *, run: str = "") -> "WorkerLease":
        return cls(this_host(), uuid4().hex, run)

    @classmethod
    def parse(cls, text: object) -> "WorkerLease | None":
        """The owner that a trial names; None where it names none, or what can't be one."""
        found = re.fullmatch(r"(.*)/([0-9a-f]{32})/([0-9a-f]{32}|)", text) if isinstance(text, str) else None
        return None if found is None else cls(*found.groups())

    def __str__(self) -> str:
        return f"{self.host}/{self.token}/{self.run}"

    @contextmanager
    def present(self, location: StudyLocation) -> Iterator["WorkerLease"]:
        """Hold the lock until the block, or the process, ends."""
        mine = self.lock(location)
        with location.lock("owners"):  # so that `sweep` takes no lock file that is just being made for a dead one's
            mine.acquire()
        try:
            yield self
        finally:
            mine.release()
            if (
                location.is_local
            ):  # elsewhere a lock that is free tells at once that its owner has gone; `sweep` removes it
                Path(mine.lock_file).unlink(missing_ok=True)

    def lock(self, location: StudyLocation) -> FileLock:
        """The lock that it holds. Its name says in which folder it lies, so that a copied folder holds none of it.

        In a copy every lock is free, and whoever works there would take those at work in the first for dead.
        """
        folder = Path(location.lock("owners").lock_file).parent
        return location.lock(f"owner-{self.token}.{folder.stat().st_ino:x}")

    def has_exited(self, location: StudyLocation) -> bool:
        """Whether the process is known to have ended; of one on another host, or in another folder, it is not."""
        if not location.is_local and self.host != this_host():
            return False
        lock = self.lock(location)
        if not Path(lock.lock_file).exists():
            # Beside a database file all locks lie together: it has gone in peace. Else it may lie elsewhere.
            return location.is_local
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        lock.release()
        return True

    def parent_has_exited(self, location: StudyLocation) -> bool:
        """Of a process that is gone: whether its run went with it, so that its end says nothing of its trial."""
        return bool(self.run) and WorkerLease(self.host, self.run).has_exited(location)


def sweep(location: StudyLocation) -> None:
    """Remove the lock files that dead processes have left, when no trial is theirs any more."""
    owners = location.lock("owners")
    with owners:
        for file in Path(owners.lock_file).parent.glob("owner-*.lock"):
            owner = WorkerLease(this_host(), file.stem.removeprefix("owner-").partition(".")[0])
            if file != Path(owner.lock(location).lock_file) or owner.has_exited(location):
                file.unlink(missing_ok=True)


def this_host() -> str:
    """This host's name, and which start of it this is: two hosts, or two machines of one name, are never the same."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    name = socket.gethostname()
    return f"{name}-{boot.read_text()[:8]}" if boot.is_file() else name
