"""What trains when: freezing strategies for fine-tuning a pretrained backbone.

The data part (`FreezingStrategy`, `Schedule`, `load_strategy`, ...) imports without torch; the names that
need torch or lightning are loaded on first use, so reading a strategy file costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from strategies.files import format_strategy, load_strategy, save_strategy
from strategies.schedule import Schedule
from strategies.strategy import Family, FreezingStrategy

if TYPE_CHECKING:
    from strategies.callback import FreezingCallback
    from strategies.freeze import set_trainable, trained_parameters
    from strategies.groups import LayerGroup, layer_groups
    from strategies.optim import param_groups

__all__ = [
    "Family",
    "FreezingCallback",
    "FreezingStrategy",
    "LayerGroup",
    "Schedule",
    "format_strategy",
    "layer_groups",
    "load_strategy",
    "param_groups",
    "save_strategy",
    "set_trainable",
    "trained_parameters",
]

_NEEDS_TORCH = {
    "FreezingCallback": "strategies.callback",
    "LayerGroup": "strategies.groups",
    "layer_groups": "strategies.groups",
    "param_groups": "strategies.optim",
    "set_trainable": "strategies.freeze",
    "trained_parameters": "strategies.freeze",
}


def __getattr__(name: str) -> Any:
    if name in _NEEDS_TORCH:
        return getattr(import_module(_NEEDS_TORCH[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
