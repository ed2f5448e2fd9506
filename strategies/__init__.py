"""Freezing strategies for fine-tuning a pretrained backbone.

    strategy, files   FreezingStrategy: the searched values, and their files
    groups            which layers: layer_groups
    schedule          when: Schedule, the epoch from which each layer group trains, and its learning rate
    freeze            what: set_trainable, the gradients and modes of a layer group
    optim             param_groups: the learning rates, for any torch optimizer
    callback          FreezingCallback: all of it, in a Lightning run

Names that need torch or lightning are loaded on first use, so that reading a strategy file is quick.
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
