"""What tells examples from others: so that none is learned from and tested on, and changed data are noticed."""

from collections.abc import Hashable, Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from search.data.decoding import Files
from search.data.examples import Examples, Inputs, TaskData
from search.data.images import Images
from search.data.texts import Texts
from search.digest import Part, digest
from search.errors import TaskError


def shared(examples: Examples, others: Examples) -> Tensor:
    """Indices (M,) of the examples that are among the others too: the same file, text or numbers."""
    known = set(_identities(others.inputs))
    again = [index for index, one in enumerate(_identities(examples.inputs)) if one in known]
    return torch.tensor(again, dtype=torch.int64)


def are_same(examples: Examples, others: Examples) -> bool:
    """Whether both are the same examples in the same order."""
    known = _identities(examples.inputs)
    return bool(known) and known == _identities(others.inputs)


def told(data: TaskData, *, where: str) -> TaskData:
    """The data, with a note where test examples are in the pool too. Raises `TaskError` where the sets are one."""
    if are_same(data.pool, data.test):
        raise TaskError(f"{where}: its test set is its pool; it must be other examples.")
    again = shared(data.test, data.pool)
    if len(again) == 0:
        return data
    note = (
        f"{where}: {len(again)} of {len(data.test)} test examples are in the pool as well (the first is number "
        f"{int(again[0])}): a score on them says little of new data."
    )
    return replace(data, notes=(*data.notes, note))


def fingerprint(data: TaskData, *, files: Iterable[Path]) -> str:
    """What is another one where the data are others: fewer or more, other labels, another content of these files.

    Numbers that were computed count by their shape only, for another machine may round them otherwise.
    """
    parts: list[Part] = [repr(data.classes), *(digest(file.read_bytes()) for file in files)]
    for examples in (data.pool, data.test):
        targets, inputs = examples.targets, examples.inputs
        parts.append(tuple(targets.shape) if targets.is_floating_point() else targets)
        if isinstance(inputs, Images) and isinstance(inputs.source, Files):
            paths = [inputs.source.paths[row] for row in inputs.rows.tolist()]
            parts += [(path.parent.name, path.name, path.lstat().st_size) for path in paths]
    return digest(*parts)


def _identities(inputs: Inputs) -> list[Hashable]:
    if isinstance(inputs, Tensor):
        return [digest(row) for row in inputs.numpy()]
    if isinstance(inputs, dict):
        return list(zip(*(_identities(tensor) for tensor in inputs.values()), strict=True))
    # Raw inputs of ours can tell their files and texts; of others nothing is known.
    return inputs.identities() if isinstance(inputs, Images | Texts) else []
