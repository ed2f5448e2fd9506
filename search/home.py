"""A study's place, and the processes at work in it."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from search.errors import StorageError

OUT = Path("studies")
"""Where studies live by default: `./studies/<name>/`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """A study's place: its name, the folder with everything it makes, and the database URL.

    storage: what the user named as its database, a URL or "env:VARIABLE"; None for its own SQLite file.
    """

    name: str
    folder: Path
    url: str
    storage: str | None = None

    @classmethod
    def of(cls, name: str, *, out: Path, storage: str | None) -> "Home":
        """The place of the study of that name under `out`; `storage` is None for its own SQLite file.

        Raises `StorageError` where that names a variable that is not set.
        """
        folder = out / name
        url = sqlite_url(folder / "study.db") if storage is None else database_url(storage)
        return cls(name=name, folder=folder, url=url, storage=storage)

    def explore_name(self, size: int) -> str:
        return f"{self.name}/n={size}"

    @property
    def confirm_name(self) -> str:
        return f"{self.name}/confirm"

    @property
    def is_local(self) -> bool:
        """Whether the database is a file: then all its processes are on this host, whatever the host is called."""
        return sqlite_file(self.url) is not None

    def lock(self, name: str) -> FileLock:
        """A lock between the processes of this host, free again when its holder dies.

        It lies beside the database file, so that all who use that file meet there, whatever their folders; those
        that use a server meet where their folder is the same.
        """
        file = sqlite_file(self.url)
        return file_lock(self.folder / "locks" if file is None else locks_folder(file), name)

    def outcomes_file(self, name: str) -> Path:
        """What is kept of a confirm trial's predictions, or of the test set; a trial stores its file's name."""
        return self.folder / "confirm" / Path(name).name


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that runs trials: a host and a lock that it holds as long as it lives.

    The lock needs no clock, no heartbeat and no process number that may be taken again, but only this host sees it:
    what other hosts see is in `search.leases`. `run` is the token of the process that started this one and watches over
    it, empty where there is none.
    """

    host: str
    token: str
    run: str = ""

    @classmethod
    def new(cls, *, run: str = "") -> "Owner":
        return cls(this_host(), uuid4().hex, run)

    @classmethod
    def parse(cls, text: object) -> "Owner | None":
        """The owner that a trial names; None where it names none, or what can't be one."""
        found = re.fullmatch(r"(.*)/([0-9a-f]{32})/([0-9a-f]{32}|)", text) if isinstance(text, str) else None
        return None if found is None else cls(*found.groups())

    def __str__(self) -> str:
        return f"{self.host}/{self.token}/{self.run}"

    @contextmanager
    def present(self, home: Home) -> Iterator["Owner"]:
        """Hold the lock until the block, or the process, ends."""
        mine = self.lock(home)
        with home.lock("owners"):  # so that `sweep` takes no lock file that is just being made for a dead one's
            mine.acquire()
        try:
            yield self
        finally:
            mine.release()
            if home.is_local:  # elsewhere a lock that is free tells at once that its owner has gone; `sweep` removes it
                Path(mine.lock_file).unlink(missing_ok=True)

    def lock(self, home: Home) -> FileLock:
        """The lock that it holds. Its name says in which folder it lies, so that a copied folder holds none of it.

        In a copy every lock is free, and whoever works there would take those at work in the first for dead.
        """
        folder = Path(home.lock("owners").lock_file).parent
        return home.lock(f"owner-{self.token}.{folder.stat().st_ino:x}")

    def is_gone(self, home: Home) -> bool:
        """Whether the process is known to have ended; of one on another host, or in another folder, it is not."""
        if not home.is_local and self.host != this_host():
            return False
        lock = self.lock(home)
        if not Path(lock.lock_file).exists():
            # Beside a database file all locks lie together: it has gone in peace. Else it may lie elsewhere.
            return home.is_local
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        lock.release()
        return True

    def was_stopped(self, home: Home) -> bool:
        """Of a process that is gone: whether its run went with it, so that its end says nothing of its trial."""
        return bool(self.run) and Owner(self.host, self.run).is_gone(home)


def sweep(home: Home) -> None:
    """Remove the lock files that dead processes have left, when no trial is theirs any more."""
    owners = home.lock("owners")
    with owners:
        for file in Path(owners.lock_file).parent.glob("owner-*.lock"):
            owner = Owner(this_host(), file.stem.removeprefix("owner-").partition(".")[0])
            if file != Path(owner.lock(home).lock_file) or owner.is_gone(home):
                file.unlink(missing_ok=True)


def this_host() -> str:
    """This host's name, and which start of it this is: two hosts, or two machines of one name, are never the same."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    name = socket.gethostname()
    return f"{name}-{boot.read_text()[:8]}" if boot.is_file() else name


def locks_folder(file: Path) -> Path:
    """Where the locks of a SQLite file lie: beside it, so that all who use it meet there, by whatever link."""
    file = file.resolve()
    return file.with_name(f"{file.name}.locks")


def file_lock(folder: Path, name: str) -> FileLock:
    """A lock between the processes of this host, free again when its holder dies."""
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{name}.lock")


def database_url(storage: str) -> str:
    """The URL itself, or that in the environment variable of "env:VARIABLE", where no list of processes shows it.

    Raises `StorageError`.
    """
    kind, _, variable = storage.partition(":")
    if kind != "env":
        return storage
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    url = os.environ.get(variable)
    if not url:
        raise StorageError(f"--storage {storage}: the environment variable {variable!r} is not set.")
    try:
        make_url(url)
    except (ArgumentError, ValueError):  # it may be the password alone, so it is not shown
        raise StorageError(f"--storage {storage}: what the variable holds is no database URL.") from None
    return url


def sqlite_url(file: Path) -> str:
    """The URL of a SQLite file."""
    from sqlalchemy.engine import URL

    # Optuna formats the URL as a template, so braces in a path must be doubled.
    try:
        url = URL.create("sqlite", database=str(file)).render_as_string(hide_password=False)
    except UnicodeEncodeError:
        raise StorageError(f"{file} can't hold a study's database: the name is not UTF-8.") from None
    return url.replace("{", "{{").replace("}", "}}")


def sqlite_file(url: str) -> Path | None:
    """The database file of a SQLite URL, else None. Raises SQLAlchemy's `ArgumentError` for what is no URL."""
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return None
    return Path(str(parsed.database).replace("{{", "{").replace("}}", "}"))
