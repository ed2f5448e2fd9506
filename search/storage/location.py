"""A study's place: its folder, its database, and the locks of its processes."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from search.storage.locks import file_lock, locks_folder
from search.storage.url import Database, redacted

OUT = Path("studies")
"""The folder of all studies by default: `./studies/<name>/`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyLocation:
    """A study's place: its name, its folder, and its database.

    storage: the database as the user named it, without passwords; None for the study's own SQLite file.
    """

    name: str
    folder: Path
    database: Database
    storage: str | None = None

    @classmethod
    def of(cls, name: str, *, out: Path, storage: str | None) -> "StudyLocation":
        """Locate the study of that name under `out`.

        storage: a URL or "env:VARIABLE"; by default the database is the study's own SQLite file.
        Raises `StorageError`.
        """
        folder = out / name
        if storage is None:
            return cls(name=name, folder=folder, database=Database.at(folder / "study.db"))
        return cls(name=name, folder=folder, database=Database.parse(storage), storage=redacted(storage))

    def explore_name(self, size: int) -> str:
        return f"{self.name}/n={size}"

    @property
    def confirm_name(self) -> str:
        return f"{self.name}/confirm"

    @property
    def is_local(self) -> bool:
        """True if the database is a file: all its processes are on this host."""
        return self.database.file is not None

    @property
    def locks(self) -> Path:
        """The folder of the lock files: beside a SQLite file, else in the study's folder."""
        file = self.database.file
        return self.folder / "locks" if file is None else locks_folder(file)

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Return a lock between the processes of this host, free when its holder ends."""
        return file_lock(self.locks, name)

    def labels_path(self, data: str) -> Path:
        """Return the file of what is known of the examples of data with that digest."""
        return self.folder / Path(f"labels-{data}.npz").name

    def predictions_path(self, name: str) -> Path:
        """Return the file of predictions, or of the test set, of that stored name."""
        return self.folder / "confirm" / Path(name).name
