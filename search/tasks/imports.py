"""Code that a study file names: "package.module:attribute"."""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from search.errors import TaskError


def import_named(name: str, *, where: str) -> Callable[..., Any]:
    """Import what "package.module:function" names, with the working directory on the path.

    This runs that module's code, so it is called only for a study file that the user named on the command
    line, never for what a stored study says. Raises `TaskError`.
    """
    module, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:
        raise TaskError(f"{where} = {name!r} can't be imported: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise TaskError(f"{where} = {name!r} is not callable.")
    return found  # type: ignore[no-any-return]
