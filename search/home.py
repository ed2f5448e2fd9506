"""A study's place, and the processes at work in it."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

OUT = Path("studies")
"""Where studies live by default: `./studies/<name>/`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """A study's place: its name, the folder with everything it makes, and the database URL."""

    name: str
    folder: Path
    url: str

    @classmethod
    def of(cls, name: str, *, out: Path, storage: str | None) -> "Home":
        """The place of the study of that name under `out`; `storage` is None for its own SQLite file."""
        folder = out / name
        return cls(name=name, folder=folder, url=storage or sqlite_url(folder / "study.db"))

    def explore_name(self, size: int) -> str:
        return f"{self.name}/n={size}"

    @property
    def confirm_name(self) -> str:
        return f"{self.name}/confirm"

    def lock(self, name: str) -> FileLock:
        """A lock between the processes of this host, free again when its holder dies."""
        folder = self.folder / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{name}.lock")

    def outcomes_file(self, number: int) -> Path:
        """Which test examples a confirm trial got right."""
        return self.folder / "confirm" / f"{number:06}.npy"


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that runs trials: a host and a lock that it holds as long as it lives.

    A lock needs no clock, no heartbeat and no process number that may be taken again.
    """

    host: str
    token: str

    @classmethod
    @contextmanager
    def enter(cls, home: Home) -> Iterator["Owner"]:
        """Be an owner until the block, or the process, ends."""
        owner = cls(socket.gethostname(), uuid4().hex)
        mine = home.lock(owner._lock_name)
        # Under the lock of claims, so that nobody takes a lock file that is just being made for a dead one's.
        with home.lock("queue"):
            for file in (home.folder / "locks").glob("owner-*.lock"):
                cls(owner.host, file.stem.removeprefix("owner-")).is_gone(home)
            mine.acquire()
        try:
            yield owner
        finally:
            mine.release()
            Path(mine.lock_file).unlink(missing_ok=True)

    @classmethod
    def parse(cls, text: str) -> "Owner":
        host, _, token = text.rpartition("/")
        return cls(host, token)

    def __str__(self) -> str:
        return f"{self.host}/{self.token}"

    @property
    def _lock_name(self) -> str:
        return f"owner-{self.token}"

    def is_gone(self, home: Home) -> bool:
        """Whether the process has ended (its lock file then goes too); of one on another host nothing is known."""
        if self.host != socket.gethostname():
            return False
        lock = home.lock(self._lock_name)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)
        return True


def sqlite_url(file: Path) -> str:
    """The URL of a SQLite file."""
    from sqlalchemy.engine import URL

    # Optuna formats the URL as a template, so braces in a path must be doubled.
    url = URL.create("sqlite", database=str(file)).render_as_string(hide_password=False)
    return url.replace("{", "{{").replace("}", "}}")
