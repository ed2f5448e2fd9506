"""Strategies as files: TOML or JSON to keep, Python to paste."""

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from strategies.strategy import FreezingStrategy

Format = Literal["toml", "json", "python"]


def save_strategy(strategy: FreezingStrategy, path: str | Path, *, provenance: Mapping[str, Any] | None = None) -> None:
    """Write a strategy and its provenance to a `.toml` or `.json` file.

    The file is replaced whole or not at all.

    provenance: names -> strings, numbers, booleans or lists of them; `load_strategy` ignores it.

    Raises `ValueError` for another suffix.
    """
    path = Path(path)
    text = format_strategy(strategy, _format_of(path), provenance=provenance)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def load_strategy(path: str | Path) -> FreezingStrategy:
    """Read a strategy from a file that `save_strategy` or `python -m search best` wrote.

    Raises `FileNotFoundError`, or `ValueError` naming the file, the key and what is allowed.
    """
    path = Path(path)
    format = _format_of(path)
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise ValueError(f"{path}: not a file.")
    text = path.read_bytes().decode("utf-8", errors="replace")
    try:
        content = tomllib.loads(text) if format == "toml" else json.loads(text)
    except (ValueError, RecursionError) as error:  # the former also of a number with thousands of digits
        raise ValueError(f"{path}: not a valid {path.suffix[1:].upper()} file: {error}") from None
    table = content.get("strategy") if isinstance(content, dict) else None
    if not isinstance(table, dict):
        raise ValueError(f"{path}: there is no table named `strategy`.")
    try:
        return FreezingStrategy.from_params(table)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: strategy: {error}") from None


def format_strategy(strategy: FreezingStrategy, format: Format, *, provenance: Mapping[str, Any] | None = None) -> str:
    """Return the text of a strategy file, or Python lines that make the strategy."""
    params, origin = strategy.to_params(defaults=False), dict(provenance or {})
    if format == "json":
        return json.dumps({"strategy": params, "provenance": origin}, indent=2) + "\n"
    if format == "toml":
        lines = ["# A freezing strategy: `from strategies import load_strategy`. Fields left out have their defaults."]
        for name, table in (("strategy", params), ("provenance", origin)):
            if table:
                lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
        return "\n".join(lines) + "\n"
    arguments = "".join(f"    {key}={value!r},\n" for key, value in params.items())
    comments = "".join(f"# {key}: {json.dumps(value)}\n" for key, value in origin.items())
    return f"{comments}from strategies import FreezingStrategy\n\nstrategy = FreezingStrategy(\n{arguments})\n"


def _format_of(path: Path) -> Format:
    formats: dict[str, Format] = {".toml": "toml", ".json": "json"}
    if path.suffix not in formats:
        raise ValueError(f"{path}: a strategy file ends in .toml or .json.")
    return formats[path.suffix]


def _toml(value: Any) -> str:
    # JSON's spelling of strings, numbers, booleans and lists is TOML's too, except for unprintable characters.
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return "".join(letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in text)
