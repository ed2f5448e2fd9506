"""Networks: their parts, their builders, the images that they take."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

from lightning.pytorch import LightningModule
from torch import Tensor, nn

from search.data.images import ImageFormat
from search.data.texts import Texts
from search.errors import TaskError
from search.spec.tables import Model
from search.user_code import one_line

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """A network taken apart: the backbone maps a batch of inputs to features (N, F).

    neck: a pretrained network's layers between features and output, as a BERT's pooler; it belongs to the head.
    head: the user's own, from features to outputs; by default a linear layer is put there.
    module: the user's own `LightningModule` around both, with its own steps and metrics.
    """

    backbone: nn.Module
    neck: nn.Module | None = None
    head: nn.Module | None = None
    module: LightningModule | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Network:
    """The network that `[model]` names, before any weights are loaded.

    build: makes a fresh one, its weights random (or as the user's function makes them).
    pretrained: weights by name -> state dict of the backbone, the neck's with "neck." before their names.
    images: the images that it takes; None for images as they are.
    encode: texts -> its inputs; None if it takes no texts.
    classifier_prefixes: prefixes of names that a whole model's state dict has beyond the backbone.
    renamed: a parameter's name in a state dict of an older release -> its name now.
    """

    build: Callable[[], Parts]
    pretrained: Callable[[str], dict[str, Tensor]] | None = None
    images: ImageFormat | None = None
    encode: Callable[[Texts], dict[str, Tensor]] | None = None
    classifier_prefixes: tuple[str, ...] = ()
    renamed: Callable[[str], str] = str


def built(make: Callable[[], Made], model: Model) -> Made:
    """Call a builder of `[model]`. Raises `TaskError` if it raises any exception."""
    try:
        return make()
    except TaskError:
        raise
    except Exception as error:
        options = f" with options {model.options}" if model.options else ""
        raise TaskError(f"[model] backbone = {model.backbone!r}{options} can't be built: {one_line(error)}") from error


def extra(package: str, where: str) -> Any:
    """Import a package that only some networks need. Raises `TaskError` if it is not installed."""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # or it reports each of its ten tries
    try:
        return import_module(package)
    except ImportError:
        raise TaskError(f"{where} needs {package}: pip install 'frostline[{package}]'.") from None


def image_format(model: Model, *, size: int, resize: int, **own: Any) -> ImageFormat:
    """Return a network's image format, with the values of `[model]` in place of its own."""
    if model.image_size is not None:
        size, resize = model.image_size, round(model.image_size * resize / size)
    mean, std = (tuple(getattr(model, key) or own[key]) for key in ("mean", "std"))
    if len(mean) != len(std):
        raise TaskError(f"[model] mean has {len(mean)} values and std {len(std)}; they need one a channel.")
    try:
        return ImageFormat(**own | {"size": size, "resize": resize, "mean": mean, "std": std})
    except ValueError as error:
        raise TaskError(f"[model] backbone = {model.backbone!r}: {error}") from None
