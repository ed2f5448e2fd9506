"""The options of a kind of data: keyword arguments of its loader, checked before it runs."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ConfigDict, ValidationError, validate_call

from search.data.examples import TaskData
from search.errors import TaskError

ALLOWED = {
    "test": "a share to hold out, from 0 to below 1, or the path of the test data",
    "part": "[from, to], two shares with 0 <= from < to <= 1",
    "classes": "{ new_name = [old classes, by name or number], ... }",
    "text": "a column, or a list of columns",
    "target": "a column, or a list of columns",
    "channels": "a list of columns",
    "delimiter": "one character",
    "labels": "true or false",
}
"""What an option may be, where pydantic would only name one of several types."""


def checked_call(loader: Callable[..., TaskData], name: str, options: Mapping[str, Any], *, where: str) -> TaskData:
    """`loader(name, **options, where=where)`, its keyword-only arguments being the options there are.

    Raises `TaskError` for an option that is unknown, missing or of another type, naming `where`, the option, its
    value and what is allowed.
    """
    parameters = inspect.signature(loader).parameters.values()
    if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
        known = [item.name for item in parameters if item.kind == item.KEYWORD_ONLY and item.name != "where"]
        check_known(options, known, where=where)
    if "where" in options:  # our own argument's name
        raise TaskError(f"{where}: option where = {options['where']!r} is not known.")
    try:
        return validate_call(config=ConfigDict(strict=True))(loader)(name, **options, where=where)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        if first["type"] == "missing_keyword_only_argument":
            raise TaskError(f"{where} needs the option {key}.") from None
        said = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ").rstrip(".")
        raise TaskError(f"{where}: option {key} = {options.get(key)!r} must be {ALLOWED.get(key, said)}.") from None


def check_known(options: Mapping[str, Any], known: list[str], *, where: str) -> None:
    """Raises `TaskError` for an option that is not among the known ones."""
    for key, value in options.items():
        if key not in known:
            allowed = ", ".join(known) or "none"
            raise TaskError(f"{where}: option {key} = {value!r} is not known; allowed: {allowed}.")
