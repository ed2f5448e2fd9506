"""Extension of a study's labels: all old ones must be there."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search.errors import StudyError
from search.files import BrokenArchive, read_arrays, replacing
from search.storage.location import StudyLocation

Marks = NDArray[np.uint64]
"""A number for each example, ascending: see `search.data.duplicates.marks`."""


def keep_marks(location: StudyLocation, data: str, marks: Marks | None, classes: Sequence[str]) -> None:
    """Keep the marks of the data of that digest in the study's folder, once."""
    file = location.labels_path(data)
    if marks is not None and not file.is_file():
        with replacing(file) as stream:
            np.savez_compressed(stream, marks=marks, classes=np.array(classes, dtype=np.str_))


def check_extends(
    location: StudyLocation, data: str, marks: Marks | None, classes: Sequence[str], *, where: str
) -> None:
    """Raise `StudyError` unless these examples are all those of the stored digest, and more.

    data: digest of the data that the study draws from so far.
    where: the key that names the data, with its value.
    """
    file = location.labels_path(data)
    try:
        kept = read_arrays(file, "marks", "classes")
        if kept["marks"].dtype != np.uint64 or kept["marks"].ndim != 1:
            raise BrokenArchive("it has no marks of examples")
    except BrokenArchive as error:
        raise StudyError(f"--extend: the old labels can't be compared, since {file} can't be read: {error}.") from None
    if marks is None:
        raise StudyError(f"--extend: examples of {where} can't be recognised, so old ones may be gone; use a new name.")
    if tuple(kept["classes"].tolist()) != tuple(classes):
        raise StudyError(f"--extend: {where} has other classes now; only labels of the same classes may be added.")
    old = kept["marks"]
    gone = len(old) - _common(old, marks)
    if gone:
        raise StudyError(
            f"--extend: of {len(old)} examples that study {location.name!r} has used, {gone} are gone from {where} or "
            "have another label now; only new ones may be added. Restore them, or give this study file another name."
        )
    if len(marks) == len(old):
        raise StudyError(
            f"--extend: nothing was added to the {len(old)} examples of {where}, but it was written again."
        )


def _common(some: Marks, others: Marks) -> int:
    """Return the number of marks in both, each as often as in both."""
    found, counts = np.unique(some, return_counts=True)
    also, more = np.unique(others, return_counts=True)
    both, mine, theirs = np.intersect1d(found, also, return_indices=True)
    return int(np.minimum(counts[mine], more[theirs]).sum()) if len(both) else 0
