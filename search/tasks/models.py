"""Networks by name: backbones of ours, of the libraries, and of the user's own code."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from search.errors import TaskError
from search.spec import Model
from search.tasks.images import ImageFormat
from search.tasks.imports import call_named
from search.tasks.texts import Texts
from strategies import LayerGroup

Tensors = Tensor | dict[str, Tensor]


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
    images, encode: how it sees images, and what it makes of texts; None where it takes tensors as they are.
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
        return _own(model, lambda: Parts(backbone=BACKBONES[name](**model.options)))
    if rest and library in LIBRARIES:
        return LIBRARIES[library](rest, model)
    if ":" in name:
        return _own(model, lambda: _parts_of(call_named(name, model.options, where="[model] backbone"), name))
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
    try:
        return network.build()
    except TaskError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        options = f" with options {model.options}" if model.options else ""
        raise TaskError(f"[model] backbone = {model.backbone!r}{options} can't be built: {reason}") from error


def image_format(
    model: Model,
    *,
    size: int,
    resize: int,
    mean: Sequence[float],
    std: Sequence[float],
    interpolation: str = "bilinear",
) -> ImageFormat:
    """A network's own image format, with what `[model]` says instead."""
    if model.image_size is not None:
        size, resize = model.image_size, round(model.image_size * resize / size)
    mean, std = tuple(model.mean or mean), tuple(model.std or std)
    if len(mean) != len(std):
        raise TaskError(f"[model] mean has {len(mean)} values and std {len(std)}; they need one a channel.")
    return ImageFormat(size=size, resize=resize, mean=mean, std=std, interpolation=interpolation)


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
        reason = " ".join(str(error).split())[:300]
        raise TaskError(
            f"[model] backbone fails on inputs of shape {shown}: {type(error).__name__}: {reason}"
        ) from error
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


def _own(model: Model, make: Callable[[], Parts]) -> Network:
    images = None
    if model.image_size is not None:
        mean = model.mean or [0.0] * len(model.std or [0.0])
        size = model.image_size
        images = image_format(model, size=size, resize=size, mean=mean, std=model.std or [1.0] * len(mean))
    return Network(build=make, images=images)


def _parts_of(made: Any, name: str) -> Parts:
    if isinstance(made, LightningModule):
        backbone, head = getattr(made, "backbone", None), getattr(made, "head", None)
        if isinstance(backbone, nn.Module) and isinstance(head, nn.Module):
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


def small_cnn() -> nn.Module:
    """Four layer groups for 8x8 grey images: three 3x3 convolution blocks, then a linear layer; 64 features."""
    return nn.Sequential(
        OrderedDict(
            block1=nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
            block2=nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            block3=nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            linear=nn.Sequential(nn.Flatten(), nn.Linear(256, 64), nn.ReLU()),
        )
    )


def lenet(*, channels: int = 1) -> nn.Module:
    """LeNet-5 (LeCun et al., 1998) with ReLU and max pooling, for 28x28 images; 84 features."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Sequential(nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            conv2=nn.Sequential(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
            linear1=nn.Sequential(nn.Flatten(), nn.Linear(400, 120), nn.ReLU()),
            linear2=nn.Sequential(nn.Linear(120, 84), nn.ReLU()),
        )
    )


class StackedLSTM(nn.Module):
    """Stacked LSTM layers in one `nn.LSTM`; the features are the last layer's final hidden state.

    Takes series (N, T, C), or {"values": (N, T, C) padded with zeros, "lengths": (N,)}.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.lstm = nn.LSTM(batch_first=True, **options)

    def forward(self, inputs: Tensors) -> Tensor:
        if isinstance(inputs, dict):
            series: Any = nn.utils.rnn.pack_padded_sequence(
                inputs["values"], inputs["lengths"].cpu(), batch_first=True, enforce_sorted=False
            )
        else:
            series = inputs
        _, (hidden, _) = self.lstm(series)
        # (layers * directions, N, F): the last layer's, forwards and, where there is one, backwards.
        return torch.cat(list(hidden[-2 if self.lstm.bidirectional else -1 :]), dim=1)


def lstm(
    *,
    input_size: int,
    hidden_size: int = 64,
    num_layers: int = 3,
    bidirectional: bool = False,
    dropout: float = 0.0,
    proj_size: int = 0,
) -> nn.Module:
    """A stack of LSTM layers for series of `input_size` channels; a layer group each."""
    return StackedLSTM(
        input_size=input_size,
        hidden_size=hidden_size,
        num_layers=num_layers,
        bidirectional=bidirectional,
        dropout=dropout,
        proj_size=proj_size,
    )


BACKBONES: Mapping[str, Callable[..., nn.Module]] = {"small_cnn": small_cnn, "lenet": lenet, "lstm": lstm}
