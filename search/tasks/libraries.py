"""Networks by the library that makes them; those of torchvision and timm, with their own weights and preprocessing."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from search.errors import TaskError
from search.sections import Model
from search.tasks.encoders import transformers_network
from search.tasks.imports import one_line
from search.tasks.models import Network, Parts, built, extra, image_format

# What builds beside its classifier an auxiliary one, which only the original training from scratch used.
_AUXILIARY = ("AuxLogits", "aux1", "aux2")


def torchvision_names() -> list[str]:
    """The classifiers of torchvision."""
    from torchvision import models

    return list(models.list_models(module=models))


def torchvision_network(name: str, model: Model) -> Network:
    """A torchvision classifier without its last layer, which is the head's place."""
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
    return Network(
        build=lambda: Parts(backbone=_headless(complete())),
        pretrained=pretrained,
        images=image_format(
            model,
            size=preset.crop_size[0],
            resize=preset.resize_size[0],
            mean=preset.mean,
            std=preset.std,
            interpolation=preset.interpolation.value,
        ),
        replaced=(f"{last}.", *(f"{auxiliary}." for auxiliary in _AUXILIARY)),
        renamed=_modern_densenet,
    )


def timm_network(name: str, model: Model) -> Network:
    """A timm model without its classifier, its features pooled (needs the extra `timm`)."""
    timm = extra("timm", f"[model] backbone = 'timm/{name}'")
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.partition('.')[0].partition('_')[0]}*")[:3])
        raise TaskError(f"[model] backbone: timm has no model {name!r}{f'; it has {near}, ...' if near else ''}.")
    options = dict(model.options)
    if "checkpoint_path" in options:  # every network would start from it, the from-scratch ones too
        raise TaskError(
            f"[model] options: checkpoint_path belongs into [model] weights = {options['checkpoint_path']!r}."
        )
    configuration = built(lambda: timm.get_pretrained_cfg(name), model)  # raises for a tag there is none of
    if model.image_size is not None and configuration is not None and configuration.fixed_input_size:
        options.setdefault("img_size", model.image_size)

    def build() -> Parts:
        return Parts(backbone=timm.create_model(name, pretrained=False, num_classes=0, **options))

    def pretrained(weights: str) -> dict[str, Tensor]:
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name.partition('.')[0]}.*")]
        if weights not in ("DEFAULT", *tags):
            raise TaskError(f"[model] weights = {weights!r}: timm's {name} has DEFAULT, {', '.join(tags) or 'none'}.")
        full = name if weights == "DEFAULT" else f"{name.partition('.')[0]}.{weights}"
        try:
            made: nn.Module = timm.create_model(full, pretrained=True, num_classes=0, **options)
        except Exception as error:
            raise TaskError(
                f"[model] weights = {weights!r}: timm's {full} can't be had ({one_line(error)}). Download it once "
                "where there is a network (timm keeps it in the Hugging Face cache), or name a local file."
            ) from error
        return made.state_dict()

    with torch.device("meta"):
        bare = built(build, model).backbone
    seen = timm.data.resolve_model_data_config(bare)
    size = int(seen["input_size"][-1])
    classifier = getattr(configuration, "classifier", None) or ()
    return Network(
        build=build,
        pretrained=pretrained,
        images=image_format(
            model,
            size=size,
            resize=round(size / seen["crop_pct"]),
            mean=seen["mean"],
            std=seen["std"],
            interpolation=seen["interpolation"],
        ),
        replaced=tuple(f"{part}." for part in ((classifier,) if isinstance(classifier, str) else classifier)),
    )


LIBRARIES: Mapping[str, Callable[[str, Model], Network]] = {
    "torchvision": torchvision_network,
    "timm": timm_network,
    "transformers": transformers_network,
}


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
