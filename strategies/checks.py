"""Checks of a field's value: wrong types raise `TypeError`, wrong values `ValueError`, and both name the field."""

import math
from typing import Any


def check_int(name: str, value: Any, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be a whole number, got {value!r}.")
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}, got {value}.")


def checked_float(name: str, value: Any, *, least: float | None = None) -> float:
    """The value as a float, finite and at least `least`; without `least`, greater than 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"`{name}` must be a number, got {value!r}.")
    if not math.isfinite(value) or (value <= 0 if least is None else value < least):
        bound = "greater than 0" if least is None else f"at least {least}"
        raise ValueError(f"`{name}` must be finite and {bound}, got {value}.")
    return float(value)


def check_choice(name: str, value: Any, *, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        words = ", ".join(f'"{word}"' for word in allowed)
        raise ValueError(f"`{name}` must be one of {words}, got {value!r}.")
