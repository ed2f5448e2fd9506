"""Code that a study file names: "package.module:attribute"."""

import inspect
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from search.errors import TaskError


def import_named(name: str, *, where: str) -> Any:
    """What "package.module:attribute" names, the working directory on the path.

    This runs that module's code, so it is done only for a study file that the user named on the command line,
    never for what a stored study says. Raises `TaskError`, naming the key `where` it was asked for.
    """
    module, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        raise TaskError(f"{where} = {name!r} can't be imported: {one_line(error)}") from error
    return found


def call_named(name: str, options: Mapping[str, Any] | None = None, *, where: str) -> Any:
    """Import what "package.module:attribute" names and call it with the options.

    What can't be called (a finished object) is returned as it is. Raises `TaskError`, as `import_named` does.
    """
    found, options = import_named(name, where=where), options or {}
    if not callable(found):
        if options:
            raise TaskError(f"{where} = {name!r} is a {type(found).__name__} and takes no options, got {[*options]}.")
        return found
    known = keywords(found)
    for key, value in options.items():
        if known is not None and key not in known:
            allowed = ", ".join(known) or "none"
            raise TaskError(f"{where} = {name!r}: option {key} = {value!r} is not known; allowed: {allowed}.")
    try:
        return found(**options)
    except TaskError:
        raise
    except (Exception, SystemExit) as error:
        raise TaskError(f"{where} = {name!r} fails: {one_line(error)}") from error


def keywords(function: Callable[..., Any]) -> list[str] | None:
    """The names of the arguments that may be given by keyword; None where any may be, or nobody knows."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
        return None
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [parameter.name for parameter in parameters if parameter.kind in by_name]


def one_line(error: BaseException) -> str:
    """An error of somebody else's code: its type and message on one line, cut to 300 characters."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}"[:300].rstrip(": ")
