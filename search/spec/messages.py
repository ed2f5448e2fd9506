"""Messages about a study file: pydantic's errors, in one line each."""

from collections.abc import Mapping
from typing import Any

from pydantic_core import ErrorDetails

from strategies.strategy import CHOICES
from strategies.validation import abbreviated

RENAMED_KEYS = {("confirm", "chains"): "repeats", ("train", "deadline"): "timeout"}
RENAMED_WORDS = {
    ("space", "batch_norm", "still"): "frozen",
    ("task", "metric", "val_loss"): "loss",
    ("task", "metric", "val_accuracy"): "accuracy",
}
"""Old spellings of a study file, and the new ones."""

_ALLOWED = {
    "options": "a table of keyword arguments, { name = value, ... }",
    "weights": 'a name, a file, or { checkpoint = "...", module = "..." }',
    "views": "a count of at least 1, or inf",
    "sizes": 'whole numbers of at least 1, or "all"',
    "test": 'a share above 0 and below 1, the path of the test data, or "cv"',
    "group_by": 'a column, an array, a pattern over file names, or "package.module:function"',
    "class_weight": '"balanced", or a table of classes with numbers above 0',
    "memory": "a number of GB, from 0 to 1e6",
    "disk": "a number of GB, from 0 to 1e6",
    "groups": 'a list of patterns or of lists of them, ["stem.*", ["layer1.*", "layer2.*"]]',
}
"""Allowed values of keys whose types pydantic would name in Python's terms."""


def explain(errors: list[ErrorDetails], content: Mapping[str, Any], *, tables: Mapping[str, list[str]]) -> str:
    """Return one line about a study file's first error.

    For example: "[search] trials = -3: must be greater than or equal to 1."

    tables: the names of the tables, and each table's keys.
    """
    if (renamed := _renamed(content)) is not None:
        return renamed
    # A union reports one error a branch; { low = ... } means the branch of ranges.
    error = next((error for error in errors if _is_about_range(error)), errors[0])
    table, *keys = [str(part) for part in error["loc"]] or [""]
    # Branches of a union appear in the location, but not in the user's file.
    keys = keys[:1]
    place = f"[{table}] {keys[0]}" if keys else f"[{table}]" if table else "the file"
    if error["type"] == "missing" and table != "space":
        return f"{place} is missing."
    if error["type"] == "extra_forbidden" and len(error["loc"]) <= 2:
        allowed = ", ".join(tables[table] if keys else tables)
        return f"{place} is not a known {'key' if keys else 'table'}; allowed: {allowed}."
    value: Any = content.get(table)
    if keys and isinstance(value, dict):
        value = value.get(keys[0])
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if error["type"] == "too_short":
        message = "must not be empty"
    elif keys and keys[0] in _ALLOWED and error["type"] != "value_error":
        message = f"must be {_ALLOWED[keys[0]]}"
    if table == "space" and keys and not _is_about_range(error):
        message = "must be a number, a list of numbers, or a range { low = ..., high = ..., log = true }"
        if keys[0] in CHOICES:
            message = f"must be one of {', '.join(map(repr, CHOICES[keys[0]]))}, or a list of them"
    setting = f"{place} = {abbreviated(value)}" if keys else place
    return f"{setting}: {message[0].lower()}{message[1:].rstrip('.')}."


def _renamed(content: Mapping[str, Any]) -> str | None:
    for (table, key), new in RENAMED_KEYS.items():
        if isinstance(keys := content.get(table), dict) and key in keys:
            return f"[{table}] {key} is now called {new}."
    for (table, key, old), new in RENAMED_WORDS.items():
        value = keys.get(key) if isinstance(keys := content.get(table), dict) else None
        if value == old or (isinstance(value, list) and old in value):
            return f'[{table}] {key} = {abbreviated(value)}: "{old}" is now called "{new}".'
    return None


def _is_about_range(error: ErrorDetails) -> bool:
    return error["type"] == "value_error" and any("Range" in str(part) for part in error["loc"])
