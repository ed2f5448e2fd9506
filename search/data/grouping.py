"""Groups of examples that stay together - patients, sites, documents - found by `[task] group_by`."""

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from search.errors import TaskError
from search.user_code import NAMED, import_named, one_line

FUNCTION = '"package.module:function"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """The way from examples to their groups, which have the same number in every set.

    by: a column, an array, a pattern over file names, or "package.module:function".
    numbers: of each name met so far.
    """

    by: str
    numbers: dict[Hashable, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"group_by = {self.by!r}"

    def of(self, items: Iterable[Any], named: Callable[[str], Iterable[Any]] | None = None) -> Tensor:
        """Return the group of each example, int64 (N,).

        items: what a function is called with, one an example.
        named: finds the names of the groups, if the data have more than a function to go by.
        Raises `TaskError`: one line that starts with the key and its value.
        """
        try:
            if NAMED.fullmatch(self.by):
                names = self._called(items)
            elif named is None:
                raise TaskError(f"these data have no such names; allowed: {FUNCTION}.")
            else:
                names = [_name(value) for value in named(self.by)]
            if missing := [place for place, name in enumerate(names) if name in ("", None)]:
                count = f"{len(missing)} of {len(names)} examples without a group"
                raise TaskError(f"{count}, the first is number {missing[0]}.")
        except TaskError as error:
            raise TaskError(f"{self}: {error}") from error
        return torch.tensor([self.numbers.setdefault(name, len(self.numbers)) for name in names], dtype=torch.int64)

    def _called(self, items: Iterable[Any]) -> list[Hashable]:
        function = import_named(self.by)
        if not callable(function):
            raise TaskError(f"it is of type {type(function).__name__}; allowed: a function of one example.")
        names = []
        for number, item in enumerate(items):
            try:
                names.append(_name(function(item)))
            except (Exception, SystemExit) as error:
                place = item if isinstance(item, str) else f"example {number}"
                raise TaskError(f"it fails for {place}: {one_line(error)}.") from error
        return names


def _name(value: Any) -> Hashable:
    """Return a group's name as text without blanks around it, or as it is.

    A missing name is "" or None.
    """
    if isinstance(value, Tensor | np.ndarray | np.generic):
        value = value.item()  # raises for several values
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    hash(value)  # raises for what is not hashable
    kind: Any = type(value)
    if value is not None and kind.__hash__ is object.__hash__:
        raise TypeError(f"a {kind.__name__} equals nothing but itself, so no two examples would share it")
    return str(value).strip() if isinstance(value, str | int | float) else value


def matched(pattern: str, file_names: Sequence[str]) -> list[str]:
    """Return each file name's first capture group, or whole match. Raises `TaskError`."""
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise TaskError(
            f"it is no regular expression: {error}; allowed: one that finds the group in each file name, or {FUNCTION}."
        ) from None
    found = [compiled.search(name) for name in file_names]
    names = ["" if match is None else (match[1 if compiled.groups else 0] or "").strip() for match in found]
    if missing := [file for file, name in zip(file_names, names, strict=True) if not name]:
        raise TaskError(f"{len(missing)} of {len(names)} file names have no such group, the first is {missing[0]}.")
    return names
