"""The study file that `python -m search new` writes: every key, explained by its docstring."""

import json
from itertools import zip_longest
from textwrap import TextWrapper
from typing import Any

from pydantic.fields import FieldInfo

from search.spec.study_spec import TABLES
from search.spec.values import Table

LINE_LENGTH = 120
MIN_COMMENT_COLUMN = 37


def starter(name: str) -> str:
    """Return a study file that runs, optional keys behind a `#` with their defaults."""
    header = (
        "# A study: which freezing strategy wins at each data-set size?\n"
        f"# Run it: python -m search run {name}\n"
        "# Every key is here; those behind a '#' show their defaults.\n"
    )
    return header + "".join(f"\n{_text(table_name, table)}\n" for table_name, table in TABLES.items())


def _text(name: str, table: type[Table]) -> str:
    rows = [(f"[{name}]", table.__doc__ or "")]
    rows += [(_setting(key, field), field.description or "") for key, field in table.model_fields.items()]
    column = max(MIN_COMMENT_COLUMN, *(len(setting) + 1 for setting, _ in rows))
    wrapper = TextWrapper(width=LINE_LENGTH - column - 2, break_on_hyphens=False)
    lines = []
    for setting, explanation in rows:
        comments = [line for paragraph in explanation.split("\n\n") for line in wrapper.wrap(paragraph)]
        lines += [f"{start:<{column}}# {text}" for start, text in zip_longest([setting], comments, fillvalue="")]
    return "\n".join(line.rstrip(" #") for line in lines)


def _setting(key: str, field: FieldInfo) -> str:
    value = field.default
    if field.is_required() or value is None:  # a default of None depends on the network, so an example is shown
        [value] = field.examples or [None]
    return f"{'' if field.is_required() else '# '}{key} = {_toml(value)}"


def _toml(value: Any) -> str:
    # JSON's spelling of strings, numbers and booleans is TOML's too.
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(inner)}' for key, inner in value.items())} }}" if value else "{}"
    return f"[{', '.join(map(_toml, value))}]" if isinstance(value, list) else json.dumps(value)
