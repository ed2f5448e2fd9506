"""Options of a source of data, checked before its loader runs."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Unpack, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, ValidationError, create_model

from search.data.examples import TaskData
from search.data.grouping import Grouping
from search.data.selection import Classes, Part, Share, select
from search.errors import TaskError

Options = dict[str, Any]

SLICES: Options = {"part": (Part | None, None), "classes": (Classes | None, None)}
SHARE: Options = {"test": (Share | Literal["cv"] | None, None), **SLICES}
PATH: Options = {"test": (Share | str | None, None), **SLICES}
"""Options of `select`: types and defaults. `test` is a share, "cv", or a path."""

ALLOWED = {
    "test": 'a share to hold out, from 0 to below 1, "cv", or the path of the test data',
    "part": "[from, to], two shares with 0 <= from < to <= 1",
    "classes": "{ new_name = [old classes, by name or number], ... }",
    "text": "a column, or a list of columns",
    "target": "a column, or a list of columns",
    "channels": "a list of columns",
    "delimiter": "one character",
    "quote": 'one character, or "" for none',
    "header": "a list of the columns' names",
    "encoding": 'an encoding that Python knows, as "cp1252"',
    "labels": "true or false",
}
"""Allowed values of options for which pydantic would only name one of several types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A kind of data.

    read: the loader; its argument is the data's name, its keywords are options (columns), and `test`, a path. One
    that finds groups takes a `Grouping` after the name.
    splits: the options of `split`, which is given what `read` returns; each with its type and default.
    chosen_by_options: options that tell this kind from others of the same ending.
    more_options: further options that `read` takes for such a name, unchecked; None: any.
    """

    read: Callable[..., Any]
    splits: Options
    split: Callable[..., TaskData] = select
    chosen_by_options: frozenset[str] = frozenset()
    more_options: Callable[[str], list[str] | None] = lambda _: []

    def load(self, name: str, options: Mapping[str, Any], *, group_by: str | None = None) -> TaskData:
        """Check the options, read the data, split them. Raises `TaskError`."""
        if group_by is not None and "grouping" not in inspect.signature(self.read).parameters:
            raise TaskError(f"group_by = {group_by!r}: these data have no groups; leave it out.")
        more = self.more_options(name)
        theirs = [*options] if more is None else more
        own = {key: field for key, field in (_keywords(self.read) | self.splits).items() if key not in theirs}
        for key, value in options.items():
            if key not in own and key not in theirs:
                allowed = ", ".join([*own, *theirs]) or "none"
                raise TaskError(f"option {key} = {value!r} is not known; allowed: {allowed}.")
        chosen = _checked(own, options)
        splits = {key: value for key, value in chosen.items() if key in self.splits}
        columns = {key: value for key, value in {**options, **chosen}.items() if key not in splits}
        if isinstance(splits.get("test"), str) and splits["test"] != "cv":
            columns["test"] = splits.pop("test")
        grouping = [] if group_by is None else [Grouping(by=group_by)]
        return self.split(self.read(name, *grouping, **columns), **splits)


def _keywords(read: Callable[..., Any]) -> Options:
    parameters = inspect.signature(read).parameters.values()
    named = {
        item.name: (item.annotation, ... if item.default is item.empty else item.default)
        for item in parameters
        if item.kind == item.KEYWORD_ONLY
    }
    # Options that several loaders share are one TypedDict: `**written: Unpack[Format]`.
    kinds = [get_args(item.annotation)[0] for item in parameters if get_origin(item.annotation) is Unpack]
    shared = {key: (hint, None) for kind in kinds for key, hint in get_type_hints(kind, include_extras=True).items()}
    return named | shared


def _checked(fields: Options, options: Mapping[str, Any]) -> Options:
    """Return the values of these options, or their defaults. Raises `TaskError`."""
    model = create_model("Options", __config__=ConfigDict(strict=True), **fields)
    try:
        return dict(model.model_validate({key: options[key] for key in fields if key in options}))
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        if first["type"] == "missing":
            raise TaskError(f"it needs the option {key}.") from None
        said = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ").rstrip(".")
        raise TaskError(f"option {key} = {options.get(key)!r} must be {ALLOWED.get(key, said)}.") from None
