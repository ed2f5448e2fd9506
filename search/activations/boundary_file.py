"""The boundaries of a study's backbone, searched for once and kept beside its cached activations."""

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from search.activations import boundary_search, partial_forward, recording, rnn_layers, slots
from search.activations.boundaries import Boundaries
from search.activations.boundary_search import BoundaryFound, Search
from search.data.examples import Tensors
from search.digest import digest, state_digest
from search.files import replacing
from strategies import LayerGroup

INSTALLED = ("site-packages", "dist-packages")


def boundaries_of(backbone: nn.Module, groups: Sequence[LayerGroup], examples: Tensors, *, folder: Path) -> Boundaries:
    """Return a backbone's boundaries, from a file in the folder or from a search now.

    The file is named by a digest of code, weights and inputs. A broken one is replaced.
    """
    file = folder / f"boundaries-{_key(backbone, groups, examples)}.json"
    with suppress(Exception):  # whatever a broken or foreign file leads to, the search finds the truth
        return Boundaries.of(backbone, groups, examples, search=_read(file))
    found = Boundaries.of(backbone, groups, examples)
    with suppress(OSError), replacing(file) as stream:
        stream.write(json.dumps(asdict(found.search)).encode())
    return found


def _read(file: Path) -> Search:
    if not file.is_file():
        raise FileNotFoundError(file)
    known = json.loads(file.read_text())
    found = {int(boundary): BoundaryFound(**one) for boundary, one in known["found"].items()}
    if not isinstance(known["reason"], str) or bool(found) == bool(known["reason"]):
        raise ValueError("no boundaries without a reason")
    return Search(found=found, reason=known["reason"])


def _key(backbone: nn.Module, groups: Sequence[LayerGroup], examples: Tensors) -> str:
    device = next(backbone.parameters()).device.type
    names = tuple((group.name, *group.parameter_names) for group in groups)
    tensors = examples if isinstance(examples, dict) else {"": examples}
    inputs = tuple((name, str(tensor.dtype), *tensor.shape) for name, tensor in sorted(tensors.items()))
    return digest(torch.__version__, device, names, inputs, _code_digest(backbone), state_digest(backbone))


def _code_digest(backbone: nn.Module) -> str:
    """Return a digest of the source files of a backbone's classes, and of their imports.

    Of an installed library, the version counts.
    """
    own = [boundary_search, partial_forward, recording, rnn_layers, slots]
    waiting = {type(module).__module__ for module in backbone.modules()} | {module.__name__ for module in own}
    files: dict[str, bytes] = {}
    while waiting:
        name = waiting.pop()
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if name in files or module is None or file is None or name.partition(".")[0] in sys.stdlib_module_names:
            continue
        if any(folder in Path(file).parts for folder in INSTALLED):
            top = name.partition(".")[0]
            files[name] = str(getattr(sys.modules.get(top), "__version__", "")).encode()
            continue
        files[name] = Path(file).read_bytes() if Path(file).is_file() else b""  # else in a zip file
        waiting |= {
            value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", ""))
            for value in vars(module).values()
        }
    return digest(*sorted(files.items()))
