"""What pydantic finds wrong with a study file, as the one line that its writer needs."""

from collections.abc import Mapping
from typing import Any

from pydantic_core import ErrorDetails

from strategies.strategy import CHOICES
from strategies.validation import shown


def _telling(errors: list[ErrorDetails]) -> ErrorDetails:
    # A union reports one error a branch; who writes { low = ... } means the branch of ranges.
    return next((error for error in errors if _is_about_range(error)), errors[0])


def _is_about_range(error: ErrorDetails) -> bool:
    return error["type"] == "value_error" and any("Range" in str(part) for part in error["loc"])


def explain(errors: list[ErrorDetails], content: dict[str, Any], *, known: Mapping[str, list[str]]) -> str:
    """One line for what is wrong with a study file: `[search] trials = -3: must be ...`.

    known: the keys of each table, and under "" the tables.
    """
    error = _telling(errors)
    table, *keys = [str(part) for part in error["loc"]] or [""]
    # Branches of a union appear in the location; what the user wrote does not have them.
    keys = keys[:1]
    place = f"[{table}] {keys[0]}" if keys else f"[{table}]" if table else "the file"
    if error["type"] == "missing" and table != "space":
        return f"{place} is missing."
    if error["type"] == "extra_forbidden" and len(error["loc"]) <= 2:
        names = ", ".join(known[table if keys else ""])
        return f"{place} is not a known {'key' if keys else 'table'}; allowed: {names}."
    value: Any = content.get(table)
    if keys and isinstance(value, dict):
        value = value.get(keys[0])
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if error["type"] == "too_short":
        message = "must not be empty"
    if keys and keys[0] in _MEANT:
        message = f"must be {_MEANT[keys[0]]}"
    if table == "space" and keys and not _is_about_range(error):
        message = "must be a number, a list of numbers, or a range { low = ..., high = ..., log = true }"
        if keys[0] in CHOICES:
            message = f"must be one of {', '.join(map(repr, CHOICES[keys[0]]))}, or a list of them"
    told = f" = {shown(value)}" if keys else ""
    return f"{place}{told}: {message[0].lower()}{message[1:].rstrip('.')}."


_MEANT = {
    "options": "a table of keyword arguments, { name = value, ... }",
    "weights": 'a name, a file, or { checkpoint = "...", module = "..." }',
    "views": "a count of at least 1, or inf",
    "memory": "a number of GB, from 0 to 1e6",
    "disk": "a number of GB, from 0 to 1e6",
}
"""What a key may be, where pydantic would name one of several types, or one of Python's."""
