"""Code that a study file names: "package.module:attribute"."""

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from search.errors import TaskError

NAMED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
"""The form of "package.module:attribute"."""


def import_named(name: str) -> Any:
    """Import "package.module:attribute", with the working directory on the path. Raises `TaskError`.

    This runs that module's code. So it is done for a study file that the user named on the command line, and
    never for a stored study.
    """
    module, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        raise TaskError(f"it can't be imported: {one_line(error)}") from error
    return found


def call_named(name: str, options: Mapping[str, Any]) -> Any:
    """Import "package.module:attribute" and call it with the options.

    A finished object is returned as it is. Raises `TaskError`.
    """
    found = import_named(name)
    if not callable(found):
        if options:
            raise TaskError(f"a {type(found).__name__} takes no options, got {[*options]}.")
        return found
    known = keywords(found)
    for key, value in options.items():
        if known is not None and key not in known:
            raise TaskError(f"option {key} = {value!r} is not known; allowed: {', '.join(known) or 'none'}.")
    try:
        return found(**options)
    except TaskError:
        raise
    except (Exception, SystemExit) as error:
        raise TaskError(f"it fails: {one_line(error)}") from error


def keywords(function: Callable[..., Any]) -> list[str] | None:
    """Return the arguments that may be given by keyword; None for any, or if unknown."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
        return None
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [parameter.name for parameter in parameters if parameter.kind in by_name]


def one_line(error: BaseException) -> str:
    """Return an error's type and message on one line, cut to 300 characters."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}"[:300].rstrip(": ")


def overrides(made: object, name: str) -> bool:
    """Check that the user's own classes define an object's method, not Lightning's alone."""
    return any(
        name in vars(cls)
        for cls in type(made).__mro__
        if not cls.__module__.startswith(("lightning.", "pytorch_lightning"))
    )
