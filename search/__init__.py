"""Frostline's search: which freezing strategy wins at each data-set size, and how sure that is.

    from search import best_strategy
    strategy = best_strategy("digits", size=200)

Names are loaded on first use, so that `python -m search --help` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from search.errors import FrostlineError, SpecError, StorageError, StudyError, TaskError

if TYPE_CHECKING:
    from search.api import Repeat, load_repeat
    from search.pruning import PhasePruner
    from search.spec.study_spec import StudySpec
    from search.verdict.best import best_strategy

__version__ = "0.1.0"

__all__ = [
    "FrostlineError",
    "PhasePruner",
    "Repeat",
    "SpecError",
    "StorageError",
    "StudyError",
    "StudySpec",
    "TaskError",
    "best_strategy",
    "load_repeat",
]

_MODULES = {
    "PhasePruner": "search.pruning",
    "Repeat": "search.api",
    "StudySpec": "search.spec.study_spec",
    "best_strategy": "search.verdict.best",
    "load_repeat": "search.api",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
