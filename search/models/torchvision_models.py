"""Classifiers of torchvision, with their weights and preprocessing."""

import re
from typing import Any

import torch
from torch import Tensor, nn

from search.errors import TaskError
from search.models.network import Network, Parts, built, image_format
from search.spec.tables import Model
from search.user_code import one_line

# Auxiliary classifiers, which only the original training from scratch used.
_AUXILIARY = ("AuxLogits", "aux1", "aux2")


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classifiers."""
    from torchvision import models

    return list(models.list_models(module=models))


def torchvision_network(name: str, model: Model) -> Network:
    """Return a torchvision classifier without its last layer, which is the head's place."""
    from torchvision import models

    if name not in torchvision_names():
        raise TaskError(f"[model] backbone: torchvision has no classifier {name!r}; `resnet18` is one.")
    enum = models.get_model_weights(name)
    options = dict(model.options)
    if name in ("inception_v3", "googlenet"):
        # `transform_input` is part of what the weights expect; the default initialisation warns that it will change.
        options = {"transform_input": True, "init_weights": True} | options

    def complete() -> nn.Module:
        network: nn.Module = models.get_model(name, weights=None, **options)
        return network

    def pretrained(weights: str) -> dict[str, Tensor]:
        entry = _entry(enum, weights)
        try:
            state: dict[str, Tensor] = entry.get_state_dict(progress=False, check_hash=True)
        except Exception as error:
            file = str(entry.url).rsplit("/", 1)[-1]
            raise TaskError(
                f"[model] weights = {weights!r}: {name}'s can't be downloaded ({one_line(error)}). Put {file} into "
                f"{torch.hub.get_dir()}/checkpoints, or name a local file: weights = {file!r}."
            ) from error
        return state

    # A RegNet reads its own parameters while it is built, which "meta" has not.
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        last = _last_layer(_without_auxiliary(built(complete, model)))
    known = isinstance(model.weights, str) and model.weights in enum.__members__
    preset = enum[model.weights if known else "DEFAULT"].transforms()
    preprocessing = {"mean": preset.mean, "std": preset.std, "interpolation": preset.interpolation.value}
    return Network(
        build=lambda: Parts(backbone=_headless(complete())),
        pretrained=pretrained,
        images=image_format(model, size=preset.crop_size[0], resize=preset.resize_size[0], **preprocessing),
        classifier_prefixes=(f"{last}.", *(f"{auxiliary}." for auxiliary in _AUXILIARY)),
        renamed=_modern_densenet,
    )


def _entry(enum: Any, weights: str) -> Any:
    if weights not in enum.__members__:
        raise TaskError(
            f"[model] weights = {weights!r} is neither a file nor known to torchvision; allowed: "
            f'{", ".join(enum.__members__)}, a file, {{ checkpoint = ..., module = ... }}, "source", "none".'
        )
    return enum[weights]


def _without_auxiliary(network: nn.Module) -> nn.Module:
    for name in _AUXILIARY:
        if hasattr(network, name):
            setattr(network, name, None)
            network.aux_logits = False  # type: ignore[assignment]
    return network


def _last_layer(network: nn.Module) -> str:
    # In all of torchvision's classifiers it is registered last; in SqueezeNet it is a convolution.
    modules: list[tuple[str, nn.Module]] = list(network.named_modules())
    layers = [name for name, module in modules if isinstance(module, nn.Linear | nn.Conv2d)]
    return layers[-1]


def _headless(network: nn.Module) -> nn.Module:
    network = _without_auxiliary(network)
    network.set_submodule(_last_layer(network), nn.Identity())
    return network


def _modern_densenet(key: str) -> str:
    # Old DenseNet files have "norm.1" where modules may have no dots now.
    return re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)", r"\1\2", key)
