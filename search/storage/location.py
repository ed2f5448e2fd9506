"""A study's place, and the processes at work in it."""

from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from search.storage.locks import file_lock, locks_folder
from search.storage.url import database_url, sqlite_file, sqlite_url

OUT = Path("studies")
"""Where studies live by default: `./studies/<name>/`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyLocation:
    """A study's place: its name, the folder with everything it makes, and the database URL.

    storage: what the user named as its database, a URL or "env:VARIABLE"; None for its own SQLite file.
    """

    name: str
    folder: Path
    url: str
    storage: str | None = None

    @classmethod
    def of(cls, name: str, *, out: Path, storage: str | None) -> "StudyLocation":
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

    def predictions_path(self, name: str) -> Path:
        """What is kept of a confirm trial's predictions, or of the test set; a trial stores its file's name."""
        return self.folder / "confirm" / Path(name).name
