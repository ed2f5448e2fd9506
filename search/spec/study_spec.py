"""A study file, read and checked: every error names the file, the key, the value and what is allowed."""

import re
import tomllib
from os.path import isfile
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator

from search.errors import SpecError
from search.spec.choices import ends
from search.spec.messages import explain
from search.spec.tables import Activations, Confirm, Model, Search, Source, Space, Table, Task, Train

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
NAMES = "at most 100 of letters, digits, '_', '.' and '-', the last two not first"
EMBEDDED = Path(__file__).resolve().parents[2] / "studies"
"""The study files that travel with the package."""


class StudySpec(Table):
    """A study file: what is learned, with which network, over which space, at what budget."""

    task: Task
    model: Model
    source: Source | None = None
    train: Train = Train()
    space: Space = Space()
    search: Search = Search()
    confirm: Confirm = Confirm()
    activations: Activations = Activations()

    @model_validator(mode="after")
    def _source_where_used(self) -> Self:
        if (self.model.weights == "source") != (self.source is not None):
            raise ValueError('[source] and weights = "source" go together: give both or neither')
        return self

    @property
    def has_from_scratch(self) -> bool:
        """Whether some trials start from random weights instead of the pretrained ones."""
        return False in (ends(self.space.pretrained) or [self.model.weights == "none"])

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a study file. Raises `SpecError`."""
        if not NAME.fullmatch(path.stem):
            raise SpecError(f"{path}: a study is named by its file: {NAMES}; got {path.stem[:120]!r}.")
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SpecError(f"{path}: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise SpecError(f"{path}: not a TOML file: it is not UTF-8 text.") from None
        except (ValueError, RecursionError) as error:  # the former also of a number with thousands of digits
            raise SpecError(f"{path}: not a TOML file: {error}.") from None
        return cls.from_dict(content, where=str(path))

    @classmethod
    def from_dict(cls, content: dict[str, Any], *, where: str) -> Self:
        """Check a study file's content; `where` is what errors name as its origin. Raises `SpecError`."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise SpecError(f"{where}: {explain(error.errors(), content, known=_known())}") from None

    def changed(self, **tables: dict[str, Any]) -> Self:
        """The spec with some keys of some tables replaced, checked like a file: what command-line options do."""
        content = self.model_dump(mode="json", exclude_unset=True)
        for table, keys in tables.items():
            content[table] = {**content.get(table, {}), **keys}
        return self.from_dict(content, where="the command line")

    def differences(self, stored: Self) -> list[str]:
        """How this spec differs from the one a study was started with, growing budgets apart.

        Sizes may be added, and trials and repeats may grow; the finished part then stays what it is. Where activations
        are kept, how long a trial may hang and what share of a GPU it takes change no result.
        """
        ours, theirs = _flat(self.model_dump(mode="json")), _flat(stored.model_dump(mode="json"))
        grown = {
            "task.sizes": set(ours["task.sizes"]) >= set(theirs["task.sizes"]),
            "search.trials": ours["search.trials"] >= theirs["search.trials"],
            "confirm.repeats": ours["confirm.repeats"] >= theirs["confirm.repeats"],
            "activations.memory": True,
            "activations.disk": True,
            "train.timeout": True,
            "train.gpus": True,
        }
        return [
            f"{key} is {ours.get(key)!r}, stored is {theirs.get(key)!r}"
            for key in sorted(ours.keys() | theirs.keys())
            if ours.get(key) != theirs.get(key) and not grown.get(key)
        ]


def find_study_file(study: str) -> Path:
    """The study file of that path, or of that name: here, in `./studies`, or among the embedded ones.

    Raises `SpecError` where there is none.
    """
    if study.endswith(".toml") or "/" in study or "\\" in study:
        path = Path(study)
        if not isfile(path):
            raise SpecError(f"{study}: there is no such study file.")
        return path
    for folder in (Path("studies"), Path("."), EMBEDDED):
        if NAME.fullmatch(study) and (path := folder / f"{study}.toml").is_file():
            return path
    known = sorted({path.stem for folder in (Path("studies"), EMBEDDED) for path in folder.glob("*.toml")})
    raise SpecError(f"There is no study file for {study[:120]!r}; known studies: {', '.join(known) or 'none'}.")


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and not prefix:
            flat |= _flat(value, f"{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _known() -> dict[str, list[str]]:
    """The keys of each table, and under "" the tables."""
    tables = {table.__name__.lower(): [*table.model_fields] for table in Table.__subclasses__()}
    return tables | {"": [*StudySpec.model_fields]}
