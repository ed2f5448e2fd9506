"""The boundaries of a study's backbone, searched for once and kept beside its cached activations."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from search.activations.boundaries import Boundaries
from search.activations.boundary_search import BoundaryFound
from search.data.examples import Tensors
from search.digest import digest, state_digest
from search.files import replacing
from strategies import LayerGroup


def boundaries_of(backbone: nn.Module, groups: Sequence[LayerGroup], examples: Tensors, *, folder: Path) -> Boundaries:
    """Return a backbone's boundaries, from a file in the folder or from a search now.

    The file is named by a digest of weights and inputs. Its cuts are tried again, because code may have changed under
    the same weights; a file that does not hold is replaced.
    """
    file = folder / f"boundaries-{_key(backbone, groups, examples)}.json"
    known = _read(file)
    boundaries = Boundaries.of(backbone, groups, examples, known=known)
    found = boundaries.search.found
    if found and found != known:
        with suppress(OSError), replacing(file) as stream:
            stream.write(json.dumps({boundary: asdict(one) for boundary, one in found.items()}).encode())
    return boundaries


def _read(file: Path) -> Mapping[int, BoundaryFound]:
    with suppress(Exception):  # a broken or foreign file is none
        return {int(boundary): BoundaryFound(**one) for boundary, one in json.loads(file.read_bytes()).items()}
    return {}


def _key(backbone: nn.Module, groups: Sequence[LayerGroup], examples: Tensors) -> str:
    device = next(backbone.parameters()).device.type
    names = tuple((group.name, *group.parameter_names) for group in groups)
    tensors = examples if isinstance(examples, dict) else {"": examples}
    inputs = tuple((name, str(tensor.dtype), *tensor.shape) for name, tensor in sorted(tensors.items()))
    return digest(torch.__version__, device, names, inputs, state_digest(backbone))
