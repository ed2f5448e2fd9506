"""Files of confirm trials in a study's folder: example scores, predictions, the test set.

    confirm/000012-3f2a9c01.npz   a trial: `example_scores` (N,), `predicted` (N, C) or (N, K), `test`: the name of
    confirm/test-5b0c7e21.npz     the test set: `targets`, `classes`, and of images `shown` and `thumbnails`

numpy only; nothing pickled is ever read.
"""

from collections.abc import Mapping, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from search.digest import digest
from search.files import BrokenArchive, read_arrays, replacing
from search.storage.location import StudyLocation
from search.verdict.results import Results
from search.verdict.rows import Row

Arrays = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TestSet:
    """The test set as far as it is kept.

    targets: (N,) classes or numbers, or (N, K) several outputs.
    classes: the classes' names; empty for regression.
    shown, thumbnails: (M,) indices and (M, h, w, 3) images of some examples; empty but for images.
    """

    __test__ = False  # pytest: not a test case

    targets: NDArray[Any]
    classes: tuple[str, ...]
    shown: NDArray[np.int64]
    thumbnails: NDArray[np.uint8]

    def is_sound(self) -> bool:
        """Check that the arrays fit each other: somebody else may have written the file."""
        targets, shown, pictures = self.targets, self.shown, self.thumbnails
        if targets.ndim == 0 or not _are_finite(targets) or shown.ndim != 1 or shown.dtype.kind not in "iu":
            return False
        if self.classes and (targets.ndim > 1 or targets.dtype.kind not in "iu" or not _within(targets, self.classes)):
            return False
        pictured = pictures.dtype == np.uint8 and pictures.ndim == 4 and pictures.shape[3] == 3 and pictures[:1].size
        return len(shown) == 0 or bool(pictured and len(pictures) == len(shown) and _within(shown, targets))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """One strategy's predictions of the test set: (N, C) or (N, K) a repeat."""

    test: TestSet
    repeats: tuple[int, ...]
    predicted: tuple[NDArray[np.float32], ...]


def save_predictions(
    location: StudyLocation, number: int, *, example_scores: NDArray[Any], predicted: NDArray[Any], test: Arrays
) -> str:
    """Write a confirm trial's file, and once the test set's. Return the trial file's name."""
    name = f"test-{digest(*test.items())[:8]}.npz"
    if not location.predictions_path(name).is_file():
        _write(location.predictions_path(name), test)
    # A name of its own: the same folder may serve several databases, each with a trial of this number.
    own = f"{number:06}-{uuid4().hex[:8]}.npz"
    arrays = {"example_scores": example_scores, "predicted": predicted, "test": np.array(name)}
    _write(location.predictions_path(own), arrays)
    return own


def with_example_scores(results: Results) -> Results:
    """Return the results with the example scores that the study's folder has."""
    scores = (read_example_scores(results.location, row.predictions_file) for row in results.rows)
    rows = (replace(row, example_scores=one) for row, one in zip(results.rows, scores, strict=True))
    return replace(results, rows=tuple(rows))


def read_example_scores(location: StudyLocation, name: str | None) -> NDArray[Any] | None:
    """Read the test examples' scores (N,) from that file; None if missing or broken."""
    scores = None if name is None else _read(location.predictions_path(name), "example_scores").get("example_scores")
    return scores if scores is not None and scores.ndim == 1 and _are_finite(scores) else None


def read_predictions(location: StudyLocation, rows: list[Row]) -> Predictions | None:
    """Read predictions of one strategy's confirm trials; None if missing, broken or of different sets."""
    files = {
        row.repeat: _read(location.predictions_path(row.predictions_file), "predicted", "test")
        for row in rows
        if row.predictions_file
    }
    names = {str(file["test"]) for file in files.values() if file}
    if len(names) != 1 or not (kept := _read(location.predictions_path(names.pop()))):
        return None
    test = TestSet(
        targets=kept.get("targets", np.empty(0)),
        classes=tuple(map(str, kept.get("classes", np.empty(0)).ravel())),
        shown=kept.get("shown", np.empty(0, dtype=np.int64)),
        thumbnails=kept.get("thumbnails", np.empty((0, 1, 1, 3), dtype=np.uint8)),
    )
    found = {repeat: file["predicted"] for repeat, file in sorted(files.items()) if file}
    width = len(test.classes) or test.targets[:1].size
    shape = (len(test.targets) if test.targets.ndim else 0, width)
    if not test.is_sound() or any(one.shape != shape or one.dtype.kind not in "biuf" for one in found.values()):
        return None
    return Predictions(
        test=test, repeats=tuple(found), predicted=tuple(array.astype(np.float32) for array in found.values())
    )


def _write(file: Path, arrays: Arrays) -> None:
    with replacing(file) as stream:
        np.savez_compressed(stream, **arrays)


def _read(file: Path, *names: str) -> dict[str, NDArray[Any]]:
    """Read these arrays of a file, or all; {} if missing, broken or a link."""
    try:
        return {} if file.is_symlink() else read_arrays(file, *names)
    except (BrokenArchive, OSError, ValueError):  # the last two: of a name that can't be a file's
        return {}


def _are_finite(array: NDArray[Any]) -> bool:
    return array.dtype.kind in "biuf" and bool(np.isfinite(array).all())


def _within(indices: NDArray[Any], sequence: Sized) -> bool:
    """Check that all of them are indices of the sequence."""
    return bool(((indices >= 0) & (indices < len(sequence))).all())
