"""A backbone's weights: by the library's name for them, from a file, or one module of a checkpoint."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from search.errors import TaskError
from search.spec import Checkpoint, Model
from search.tasks.models import Network

_FILES = (".pt", ".pth", ".ckpt", ".bin", ".tar", ".safetensors")


def load_weights(model: Model, network: Network, backbone: nn.Module) -> dict[str, Tensor] | None:
    """The state dict that `[model] weights` names, checked against the backbone; None for "source" and "none".

    Files are read without running code (`weights_only`). What a whole model's file has beyond the backbone, its
    own classifier, is left out. Raises `TaskError`.
    """
    weights = model.weights
    if weights in ("source", "none"):
        return None
    if isinstance(weights, Checkpoint):
        where = f"[model] weights: {weights.checkpoint!r}"
        state = read_module(Path(weights.checkpoint), weights.module, where=where)
    elif network.pretrained is not None and not _is_file(weights):
        where, state = f"[model] weights = {weights!r}", network.pretrained(weights)
    elif _is_file(weights):
        where = f"[model] weights = {weights!r}"
        state = read_module(Path(weights), "", where=where)
    else:
        raise TaskError(
            f"[model] weights = {weights!r}: {model.backbone} has none of its own; allowed: a file, "
            '{ checkpoint = ..., module = ... }, "source", "none".'
        )
    state = {network.renamed(key): value for key, value in state.items()}
    return fitting(state, backbone, replaced=network.replaced, where=where)


def read_module(file: Path, module: str, *, where: str) -> dict[str, Tensor]:
    """The state dict of one module ("" = all) of a state-dict file or a (Lightning) checkpoint."""
    content = _read(file, where)
    if not isinstance(content, Mapping):
        raise TaskError(f"{where} holds a {type(content).__name__}, no state dict.")
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    state = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    prefix = f"{module}." if module else ""
    found = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if not found:
        known = sorted({key.rpartition(".")[0].split(".")[0] for key in state if "." in key})
        raise TaskError(f"{where} has no module {module!r}; it has: {', '.join(known[:12]) or 'nothing'}.")
    return found


def fitting(
    state: Mapping[str, Tensor], backbone: nn.Module, *, replaced: tuple[str, ...] = (), where: str
) -> dict[str, Tensor]:
    """The part of a state dict that is the backbone's. Raises `TaskError` naming the keys that do not fit."""
    wanted = backbone.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    extra = [k for k in state if k not in wanted and not k.startswith((*replaced, "neck."))]
    wrong = [
        f"{key} is {tuple(state[key].shape)}, not {tuple(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in state and state[key].shape != tensor.shape
    ]
    if len(missing) == len([key for key in wanted if not key.endswith("num_batches_tracked")]):
        for prefix in sorted({key[: key.index(first)] for first in list(wanted)[:1] for key in state if first in key}):
            if prefix.endswith("."):
                raise TaskError(
                    f"{where} does not fit the backbone: its names begin with {prefix!r}. Say "
                    f'weights = {{ checkpoint = ..., module = "{prefix[:-1]}" }}.'
                )
    for kind, keys in (("lacks", missing), ("has unknown", extra), ("has other shapes:", wrong)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise TaskError(f"{where} does not fit the backbone: it {kind} {', '.join(keys[:3])}{more}.")
    return {key: state.get(key, tensor) for key, tensor in wanted.items()} | {
        key: tensor for key, tensor in state.items() if key.startswith("neck.") and key not in wanted
    }


def _read(file: Path, where: str) -> Any:
    if not file.is_file():
        raise TaskError(f"{where}: there is no such file.")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except ImportError:
        raise TaskError(f"{where} needs safetensors: pip install 'frostline[timm]'.") from None
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) and "Unsupported global" in str(error):
            raise TaskError(
                f"{where} holds more than tensors and plain values, and is not run as code: save its state dict alone."
            ) from error
        raise TaskError(f"{where} can't be read: it is no file of weights, or a damaged one.") from error


def _is_file(weights: str) -> bool:
    return weights.endswith(_FILES) or Path(weights).is_file()
