"""A study file, read and checked; errors name file, key, value and allowed values."""

import re
import tomllib
from os.path import isfile
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator

from search.errors import SpecError
from search.spec.messages import explain
from search.spec.tables import Activations, Confirm, Model, Search, Source, Space, Task, Train
from search.spec.values import Table, ends
from strategies import FreezingStrategy
from strategies.strategy import Parameters

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
NAMES = "at most 100 of letters, digits, '_', '.' and '-', the last two not first"
EMBEDDED = Path(__file__).resolve().parents[2] / "studies"
"""The folder of the study files that are installed with the package."""


class StudySpec(Table):
    """A study file: data, network, space of strategies and budget."""

    task: Task
    model: Model
    source: Source | None = None
    train: Train = Train()
    space: Space = Space()
    search: Search = Search()
    confirm: Confirm = Confirm()
    activations: Activations = Activations()

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if (self.model.weights == "source") != (self.source is not None):
            raise ValueError('[source] and weights = "source" go together: give both or neither')
        return self

    @property
    def has_from_scratch(self) -> bool:
        """True if some trials start from random weights instead of the pretrained ones."""
        return False in (ends(self.space.pretrained) or [self.model.weights == "none"])

    @property
    def widest(self) -> Parameters:
        """The `parameters` of baselines and from scratch: "all" if the space has it."""
        return "all" if "all" in ends(self.space.parameters) else "trainable"

    def strategy(self, params: dict[str, Any], *, num_groups: int) -> FreezingStrategy:
        """Return the canonical strategy of a trial's params. Raises as `FreezingStrategy.from_params`."""
        strategy = FreezingStrategy.from_params({"parameters": self.widest} | params)
        return strategy.canonical(num_groups, self.train.epochs)

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
        """Check a study file's content; errors name `where` as its origin. Raises `SpecError`."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise SpecError(f"{where}: {explain(error.errors(), content, tables=_KEYS)}") from None

    def changed(self, **tables: dict[str, Any]) -> Self:
        """Replace some keys of some tables, as command-line options do. Raises `SpecError`."""
        content = self.model_dump(mode="json", exclude_unset=True)
        for table, keys in tables.items():
            content[table] = {**content.get(table, {}), **keys}
        return self.from_dict(content, where="the command line")

    def within(self, budget: tuple[int, int] | None) -> Self:
        """Return this spec with at most these exploring trials and repeats."""
        if budget is None:
            return self
        trials, repeats = min(self.search.trials, budget[0]), min(self.confirm.repeats, budget[1])
        return self.changed(search={"trials": trials}, confirm={"repeats": repeats})

    def differences(self, stored: Self) -> list[str]:
        """Return how this spec differs from the stored one, growing budgets apart.

        Sizes may be added, and trials and repeats may grow: the finished part stays as it is. The budgets of the cache,
        `timeout` and `gpus` change no result.
        """
        new, old = _flat(self.model_dump(mode="json")), _flat(stored.model_dump(mode="json"))
        allowed = {
            "task.sizes": set(new["task.sizes"]) >= set(old["task.sizes"]),
            "search.trials": new["search.trials"] >= old["search.trials"],
            "confirm.repeats": new["confirm.repeats"] >= old["confirm.repeats"],
            **dict.fromkeys(("activations.memory", "activations.disk", "train.timeout", "train.gpus"), True),
        }
        return [
            f"{key} is {new.get(key)!r}, stored is {old.get(key)!r}"
            for key in sorted(new.keys() | old.keys())
            if new.get(key) != old.get(key) and not allowed.get(key)
        ]


TABLES: dict[str, type[Table]] = {
    table.__name__.lower(): table for table in (Task, Model, Source, Train, Space, Search, Confirm, Activations)
}
"""The tables of a study file, in the order in which people write them."""
_KEYS = {name: [*table.model_fields] for name, table in TABLES.items()}


def find_study_file(study: str) -> Path:
    """Return the study file of that path or name.

    A name is looked up in `./studies`, in the working directory and among the installed study files. Raises
    `SpecError` if there is none.
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


def _flat(tables: dict[str, Any]) -> dict[str, Any]:
    return {f"{table}.{key}": value for table, keys in tables.items() if keys for key, value in keys.items()}
