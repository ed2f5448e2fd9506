"""Networks by name: backbones of ours, of the libraries, and of the user's own code."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, TypeVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from search.errors import TaskError
from search.sections import Model
from search.tasks.images import ImageFormat
from search.tasks.imports import call_named, one_line
from search.tasks.networks import BACKBONES
from search.tasks.texts import Texts
from strategies import LayerGroup

Tensors = Tensor | dict[str, Tensor]
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """A network taken apart: the backbone maps a batch of inputs to features (N, F).

    neck: what a pretrained network has between features and output, a BERT's pooler; it belongs to the head.
    head: the user's own, from features to outputs; by default a linear layer is put there.
    module: the user's own `LightningModule` around both, which then brings its own steps and metrics.
    """

    backbone: nn.Module
    neck: nn.Module | None = None
    head: nn.Module | None = None
    module: LightningModule | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Network:
    """What a study's `[model]` names, before any weights are loaded.

    build: a fresh one, its weights random (or as the user's function makes them).
    pretrained: weights by name -> state dict of the backbone, the neck's with "neck." before their names.
    images, encode: how it sees images, None for as they are; and what it makes of texts, None for nothing.
    replaced: the names (prefixes) of what a whole model's state dict has and the backbone has not: its classifier.
    renamed: what a state dict of an older release calls a parameter -> what it is called now.
    """

    build: Callable[[], Parts]
    pretrained: Callable[[str], dict[str, Tensor]] | None = None
    images: ImageFormat | None = None
    encode: Callable[[Texts], dict[str, Tensor]] | None = None
    replaced: tuple[str, ...] = ()
    renamed: Callable[[str], str] = str


def find_network(model: Model) -> Network:
    """The network that `[model]` names: a row of `BACKBONES`, "LIBRARY/NAME" of `LIBRARIES`, a torchvision
    classifier's bare name, or "package.module:function".

    The function is the user's: it returns a module, a (backbone, head) pair, or a `LightningModule` with a
    `backbone` and a `head`; it is called anew for every trial. Raises `TaskError`.
    """
    from search.tasks.libraries import LIBRARIES, torchvision_names

    name = model.backbone
    library, _, rest = name.partition("/")
    if name in BACKBONES:
        return Network(build=lambda: Parts(backbone=BACKBONES[name](**model.options)))
    if rest and library in LIBRARIES:
        return LIBRARIES[library](rest, model)
    if ":" in name:
        return Network(build=lambda: _parts_of(call_named(name, model.options, where="[model] backbone"), name))
    known = torchvision_names()
    if name in known:
        return LIBRARIES["torchvision"](name, model)
    near = get_close_matches(name, [*BACKBONES, *known], n=3)
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    raise TaskError(
        f"[model] backbone = {name!r} is not known{hint}; allowed: {', '.join(BACKBONES)}, a torchvision classifier, "
        f'"timm/NAME", "transformers/NAME or folder", or "package.module:function".'
    )


def build(network: Network, model: Model) -> Parts:
    """A fresh network. Raises `TaskError` where its builder does."""
    return built(network.build, model)


def built(make: Callable[[], Made], model: Model) -> Made:
    """What a builder of `[model]` makes. Raises `TaskError` where it raises anything."""
    try:
        return make()
    except TaskError:
        raise
    except Exception as error:
        options = f" with options {model.options}" if model.options else ""
        raise TaskError(f"[model] backbone = {model.backbone!r}{options} can't be built: {one_line(error)}") from error


def extra(package: str, where: str) -> Any:
    """A package that only some networks need. Raises `TaskError` where it is not installed."""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # or it tells of each of its ten tries
    try:
        return import_module(package)
    except ImportError:
        raise TaskError(f"{where} needs {package}: pip install 'frostline[{package}]'.") from None


def image_format(
    model: Model,
    *,
    size: int,
    resize: int,
    mean: Sequence[float],
    std: Sequence[float],
    interpolation: str = "bilinear",
) -> ImageFormat:
    """How a network sees images, with what `[model]` says instead."""
    if model.image_size is not None:
        size, resize = model.image_size, round(model.image_size * resize / size)
    mean, std = tuple(model.mean or mean), tuple(model.std or std)
    if len(mean) != len(std):
        raise TaskError(f"[model] mean has {len(mean)} values and std {len(std)}; they need one a channel.")
    try:
        return ImageFormat(size=size, resize=resize, mean=mean, std=std, interpolation=interpolation)
    except ValueError as error:
        raise TaskError(f"[model] backbone = {model.backbone!r}: {error}") from None


def feature_width(backbone: nn.Module, inputs: Tensors) -> int:
    """The width F of the features that the backbone makes of these inputs. Raises `TaskError` unless (N, F)."""
    size = len(next(iter(inputs.values())) if isinstance(inputs, dict) else inputs)
    shown = {k: tuple(v.shape) for k, v in inputs.items()} if isinstance(inputs, dict) else tuple(inputs.shape)
    was_training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            features = backbone(inputs)
    except Exception as error:
        raise TaskError(f"[model] backbone fails on inputs of shape {shown}: {one_line(error)}") from error
    finally:
        backbone.train(was_training)
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != size:
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise TaskError(f"[model] backbone must return features of shape ({size}, F), got {shape}.")
    return features.shape[1]


def check_order(backbone: nn.Module, groups: Sequence[LayerGroup], inputs: Tensors) -> None:
    """Raises `TaskError` unless the layer groups run in their order on these inputs, the input side first.

    Freezing a leading group that runs behind a thawed one would be no prefix: nothing before it is constant.
    """
    first: dict[int, int] = {}
    calls: list[int] = []
    home = {id(parameter): index for index, group in enumerate(groups) for parameter in group.parameters}

    def watch(module: nn.Module, arguments: Any) -> None:
        for parameter in module.parameters(recurse=False):
            index = home[id(parameter)]
            first.setdefault(index, len(calls))
        calls.append(1)

    leaves = [m for m in backbone.modules() if next(m.children(), None) is None]
    hooks = [module.register_forward_pre_hook(watch) for module in leaves]
    try:
        feature_width(backbone, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    order = sorted(first, key=lambda index: (first[index], index))
    if order != sorted(order):
        ran = ", ".join(groups[index].name for index in order)
        listed = ", ".join(group.name for group in groups)
        raise TaskError(
            f"[model] backbone: its layer groups run in the order {ran}, but are listed as {listed}; "
            "give [model] groups = [...], glob patterns over parameter names, one a group, input side first."
        )


def _parts_of(made: Any, name: str) -> Parts:
    if isinstance(made, LightningModule):
        backbone, head = getattr(made, "backbone", None), getattr(made, "head", None)
        if isinstance(backbone, nn.Module) and isinstance(head, nn.Module):
            if type(made).forward is LightningModule.forward:  # it has none of its own; its steps do without
                made.forward = nn.Sequential(backbone, head).forward  # type: ignore[method-assign]
            return Parts(backbone=backbone, head=head, module=made)
        raise TaskError(
            f"[model] backbone = {name!r} returned a LightningModule without a `backbone` and a `head`; it needs both."
        )
    if isinstance(made, nn.Module):
        return Parts(backbone=made)
    if isinstance(made, tuple) and len(made) == 2 and all(isinstance(part, nn.Module) for part in made):
        return Parts(backbone=made[0], head=made[1])
    raise TaskError(
        f"[model] backbone = {name!r} returned a {type(made).__name__}; it must return a torch module, a "
        "(backbone, head) pair of them, or a LightningModule with a `backbone` and a `head`."
    )
