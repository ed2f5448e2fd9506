"""Backbones by name, and the linear head on top."""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from search.errors import TaskError
from search.tasks.imports import call_named


def build_backbone(name: str) -> nn.Module:
    """The backbone of that name (a row of `BACKBONES`, or "package.module:function" that returns a module).

    It maps a batch of inputs to features (N, F). Its weights are random. Raises `TaskError`.
    """
    if name in BACKBONES:
        return BACKBONES[name]()
    if ":" in name:
        backbone = call_named(name, where="[model] backbone")
        if not isinstance(backbone, nn.Module):
            raise TaskError(
                f"[model] backbone = {name!r} returned a {type(backbone).__name__}; it must return a torch module."
            )
        return backbone
    known = ", ".join(BACKBONES)
    raise TaskError(f'[model] backbone = {name!r} is not known; allowed: {known}, or "package.module:function".')


def feature_width(backbone: nn.Module, inputs: Tensor) -> int:
    """The width F of the features that the backbone makes of these inputs. Raises `TaskError` unless (N, F)."""
    was_training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            features = backbone(inputs)
    except Exception as error:
        raise TaskError(
            f"[model] backbone fails on inputs of shape {tuple(inputs.shape)}: {type(error).__name__}: {error}"
        ) from error
    finally:
        backbone.train(was_training)
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(inputs):
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise TaskError(f"[model] backbone must return features of shape ({len(inputs)}, F), got {shape}.")
    return features.shape[1]


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


BACKBONES: dict[str, Callable[[], nn.Module]] = {"small_cnn": small_cnn}
