"""A backbone's weights: by a library's name, from a file, or from a checkpoint's module."""

import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from os.path import isfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from search.errors import TaskError
from search.files import BrokenArchive, check_size
from search.models.network import Network
from search.spec.tables import Checkpoint, Model

_FILES = (".pt", ".pth", ".ckpt", ".bin", ".tar", ".safetensors")
_WRAPPERS = ("state_dict", "model_state_dict", "model")  # where files keep the state dict, the likeliest first


def load_weights(model: Model, network: Network, backbone: nn.Module) -> dict[str, Tensor] | None:
    """Load the state dict that `[model] weights` names; None for "source" and "none".

    Files are read without running code (`weights_only`). A whole model's classifier is left out.
    Raises `TaskError` if it does not fit the backbone.
    """
    weights = model.weights
    if weights in ("source", "none"):
        return None
    where, module = f"[model] weights = {weights!r}", ""
    if isinstance(weights, Checkpoint):
        where, module = f"[model] weights: {weights.checkpoint!r}", weights.module
        state = read_module(Path(weights.checkpoint), module, where=where)
    elif _is_file(weights):
        state = read_module(Path(weights), "", where=where)
    elif network.pretrained is not None:
        state = network.pretrained(weights)
    else:
        raise TaskError(
            f"{where}: {model.backbone} has none of its own; allowed: a file, "
            '{ checkpoint = ..., module = ... }, "source", "none".'
        )
    renamed = {network.renamed(key): value for key, value in state.items()}
    if not renamed.keys() & backbone.state_dict().keys() and (
        prefix := _prefix(state, set(backbone.state_dict()), network.renamed)
    ):
        inside = ".".join(filter(None, [module, prefix[:-1]]))
        raise TaskError(
            f"{where} does not fit the backbone: its names begin with {prefix!r}. Say "
            f'weights = {{ checkpoint = ..., module = "{inside}" }}.'
        )
    return match_state_dict(renamed, backbone, classifier_prefixes=network.classifier_prefixes, where=where)


def read_module(file: Path, module: str, *, where: str) -> dict[str, Tensor]:
    """Read one module's state dict ("": all) of a state-dict file or a checkpoint.

    `torch.compile`'s "_orig_mod." is no part of a name. A name may also lead through nested tables of a file, as
    "model_ema" or "teacher.backbone". Raises `TaskError`.
    """
    content = _read(file, where)
    if not isinstance(content, Mapping):
        kind = "a whole pickled object" if isinstance(content, _Inert) else f"a {type(content).__name__}"
        raise TaskError(f"{where} holds {kind}, no state dict.")
    main = [content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
    rest = {key: value for key, value in content.items() if key not in _WRAPPERS}
    states = [state for part in (*main, rest) if (state := dict(_tensors(part)))]
    prefix = _plain(f"{module}.") if module else ""
    for state in states:
        if found := {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}:
            return found
    if not states:
        raise TaskError(f"{where} holds no tensors.")
    known = dict.fromkeys(key.partition(".")[0] for state in states for key in sorted(state) if "." in key)
    raise TaskError(f"{where} has no module {module!r}; it has: {', '.join([*known][:12]) or 'no modules'}.")


def match_state_dict(
    state: Mapping[str, Tensor], backbone: nn.Module, *, classifier_prefixes: tuple[str, ...] = (), where: str
) -> dict[str, Tensor]:
    """Return the backbone's part of a state dict. Raises `TaskError` with unfit keys."""
    wanted = backbone.state_dict()
    names = {_plain(key): key for key in wanted}  # the backbone may be a compiled one
    state = {names.get(key, key): value for key, value in state.items()}
    both = [(key, state[key], tensor) for key, tensor in wanted.items() if key in state]
    shapes = [f"{key} is {tuple(a.shape)}, not {tuple(b.shape)}" for key, a, b in both if a.shape != b.shape]
    problems = {
        "it lacks": [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")],
        "it has unknown": [k for k in state if k not in wanted and not k.startswith((*classifier_prefixes, "neck."))],
        "it has other shapes:": shapes,
        "it has other types:": [
            f"{key} is {a.dtype}, not {b.dtype}" for key, a, b in both if a.is_complex() != b.is_complex()
        ],
        # Of the right shapes alone: a file may say of one number that it is a thousand million.
        "not finite:": [] if shapes else [key for key, a, _ in both if not a.isfinite().all()],
    }
    for kind, keys in problems.items():
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise TaskError(f"{where} does not fit the backbone: {kind} {', '.join(keys[:3])}{more}.")
    return {key: state.get(key, tensor) for key, tensor in wanted.items()} | {
        key: tensor for key, tensor in state.items() if key.startswith("neck.") and key not in wanted
    }


class _Inert:
    """A stand-in for an object of unknown class: none of its code is run."""

    def __new__(cls, *arguments: Any, **options: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **options: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def _read(file: Path, where: str) -> Any:
    if not isfile(file):
        raise TaskError(f"{where}: there is no such file.")
    strangers: list[Any] = []
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        if zipfile.is_zipfile(file):
            with file.open("rb") as stream:
                check_size(stream)
        strangers = _strangers(file)
        with torch.serialization.safe_globals(strangers):
            return torch.load(file, map_location="cpu", weights_only=True)
    except ImportError:
        raise TaskError(f"{where} needs safetensors: pip install 'frostline[timm]'.") from None
    except BrokenArchive as error:
        raise TaskError(f"{where} can't be read: {error}.") from error
    except Exception as error:
        if strangers or (isinstance(error, pickle.UnpicklingError) and "Unsupported global" in str(error)):
            raise TaskError(
                f"{where} holds more than tensors and plain values, and is not run as code: save its state dict alone."
            ) from error
        raise TaskError(f"{where} can't be read: it is no file of weights, or a damaged one.") from error


def _strangers(file: Path) -> list[Any]:
    """Return a checkpoint's classes that `weights_only` does not know, to be read as `_Inert`."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except Exception:  # of an older format: `torch.load` names it
        return []
    return [(_Inert, name) for name in names]


def _tensors(content: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for key, value in content.items():
        if isinstance(value, Tensor):
            yield _plain(f"{prefix}{key}"), value
        elif isinstance(value, Mapping):
            yield from _tensors(value, f"{prefix}{key}.")


def _plain(name: str) -> str:
    return name.replace("_orig_mod.", "")


def _prefix(state: Mapping[str, Tensor], wanted: set[str], renamed: Callable[[str], str]) -> str:
    """Return the prefix with the most of the wanted names; "" without any."""

    def count(prefix: str) -> int:
        return sum(renamed(key.removeprefix(prefix)) in wanted for key in state if key.startswith(prefix))

    prefixes = dict.fromkeys(key[: end + 1] for key in state for end, character in enumerate(key) if character == ".")
    return max(prefixes, key=count, default="") if any(map(count, prefixes)) else ""


def _is_file(weights: str) -> bool:
    return weights.endswith(_FILES) or isfile(weights)  # False for a name that no file can have
