"""Identity of examples: duplicates in pool and test set are found, and changed data noticed."""

from collections.abc import Hashable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search.data.decoding import Files, Pixels
from search.data.examples import Examples, Inputs, TaskData
from search.data.images import Images
from search.data.texts import Texts
from search.digest import Part, digest
from search.errors import TaskError


def shared(examples: Examples, others: Examples) -> Tensor:
    """Return indices (M,) of examples that are among the others: same file, text or numbers."""
    known = set(_identities(others.inputs))
    again = [index for index, one in enumerate(_identities(examples.inputs)) if one in known]
    return torch.tensor(again, dtype=torch.int64)


def are_same(examples: Examples, others: Examples) -> bool:
    """Compare two sets: whether they are the same examples in the same order."""
    known = _identities(examples.inputs)
    return bool(known) and known == _identities(others.inputs)


def warn_duplicates(data: TaskData) -> TaskData:
    """Add a note if examples that evaluate are in the pool.

    Raises `TaskError` if the test set is the pool.
    """
    if are_same(data.pool, data.test):
        raise TaskError("its test set is its pool; it must be other examples.")
    notes = []
    for name, part in data.parts.items():
        if name != "pool" and len(again := shared(part, data.pool)):
            notes.append(
                f"{len(again)} of {len(part)} {name} examples are in the pool as well (the first is number "
                f"{int(again[0])}): a score on them says little of new data."
            )
    return replace(data, notes=(*data.notes, *notes))


def fingerprint(data: TaskData, *, files: Iterable[Path]) -> str:
    """Digest the number of examples, their labels and the content of these files.

    Of computed numbers only the shape counts, for another machine may round them otherwise.
    """
    parts: list[Part] = [repr(data.classes), *(digest(file.read_bytes()) for file in files)]
    for examples in data.parts.values():
        targets, inputs = examples.targets, examples.inputs
        parts.append(tuple(targets.shape) if targets.is_floating_point() else targets)
        parts += [] if examples.groups is None else [examples.groups]
        if isinstance(inputs, Images) and isinstance(inputs.source, Files):
            parts += _described(inputs, inputs.source)
    return digest(*parts)


def marks(data: TaskData) -> NDArray[np.uint64] | None:
    """Return a digest of input and label for each example, as ascending numbers.

    None where inputs have no content that another process would know again.
    """
    found: list[int] = []
    for examples in data.parts.values():
        contents = _contents(examples.inputs)
        if contents is None:
            return None
        targets = examples.targets.numpy()
        labels = (
            [data.classes[label] for label in targets] if data.classes else [target.tobytes() for target in targets]
        )
        found += [int(digest(*pair)[:16], 16) for pair in zip(contents, labels, strict=True)]
    return np.sort(np.array(found, dtype=np.uint64))


def _contents(inputs: Inputs) -> list[Part] | None:
    if isinstance(inputs, Images):
        if isinstance(inputs.source, Files):
            return _described(inputs, inputs.source)
        if not isinstance(inputs.source, Pixels):
            return None
    if isinstance(inputs, dict) and {"values", "lengths"} == inputs.keys():  # padded to the longest of all
        rows = zip(inputs["values"].numpy()[:, None], inputs["lengths"].tolist(), strict=True)
        return [digest(row[:, :length]) for row, length in rows]
    contents: list[Any] = _identities(inputs)
    return contents if len(contents) == len(inputs) else None


def _described(inputs: Images, files: Files) -> list[Part]:
    paths = [files.paths[row] for row in inputs.rows.tolist()]
    return [(path.parent.name, path.name, path.lstat().st_size) for path in paths]


def _identities(inputs: Inputs) -> list[Hashable]:
    if isinstance(inputs, Tensor):
        return [digest(row) for row in inputs.numpy()[:, None]]  # arrays, also of single numbers
    if isinstance(inputs, dict):
        return list(zip(*(_identities(tensor) for tensor in inputs.values()), strict=True))
    # Raw inputs know their files and texts; of a user's own inputs nothing is known.
    return inputs.identities() if isinstance(inputs, Images | Texts) else []
