"""Checks of a field's value, which raise `TypeError` or `ValueError` and name the field."""

import math
from typing import Any

MAX_VALUE_CHARACTERS = 100


def check_int(name: str, value: Any, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be a whole number, got {abbreviated(value)}.")
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}, got {abbreviated(value)}.")


def checked_float(name: str, value: Any, *, least: float | None = None) -> float:
    """Return the value as a finite float, at least `least` or, without that, above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"`{name}` must be a number, got {abbreviated(value)}.")
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond any float
        number = math.inf
    if not math.isfinite(number) or (number <= 0 if least is None else number < least):
        bound = "greater than 0" if least is None else f"at least {least}"
        raise ValueError(f"`{name}` must be finite and {bound}, got {abbreviated(value)}.")
    return number


def check_choice(name: str, value: Any, *, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        words = ", ".join(f'"{word}"' for word in allowed)
        raise ValueError(f"`{name}` must be one of {words}, got {abbreviated(value)}.")


def abbreviated(value: Any) -> str:
    """Return a value's text for a message, cut to `MAX_VALUE_CHARACTERS`."""
    try:
        text = repr(value)
    except ValueError:  # Python spells out no number of thousands of digits
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= MAX_VALUE_CHARACTERS else f"{text[: MAX_VALUE_CHARACTERS - 3]}..."
