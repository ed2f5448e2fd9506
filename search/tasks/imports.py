"""Code that a study file names: "package.module:attribute"."""

import sys
from importlib import import_module
from typing import Any

from search.errors import TaskError


def call_named(name: str, *, where: str) -> Any:
    """Import what "package.module:function" names, the working directory on the path, and call it.

    This runs that module's code, so it is done only for a study file that the user named on the command line,
    never for what a stored study says. Raises `TaskError`, naming the key `where` it was asked for.
    """
    module, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:
        raise TaskError(f"{where} = {name!r} can't be imported: {type(error).__name__}: {error}") from error
    try:
        return found()
    except Exception as error:
        raise TaskError(f"{where} = {name!r} fails: {type(error).__name__}: {error}") from error
