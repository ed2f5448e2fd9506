"""Files of confirm trials in a study's folder: example scores, predictions, the test set.

    confirm/000012-3f2a9c01.npz   a trial: `example_scores` (T,), `predicted` (T, C) or (T, K), `tested` (T,): which of
                                  the N in `test`, the name of
    confirm/test-5b0c7e21.npz     the test set: `targets`, `classes`, `groups`, and of images `shown` and `thumbnails`

numpy only; nothing pickled is ever read.
"""

from collections.abc import Mapping, Sequence, Sized
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

MAX_EXAMPLES = 2**31
"""Examples of a test set, at most."""


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
    """One strategy's predictions of the whole test set, round by round.

    predicted: (N, C) or (N, K) a round.
    In cross-validation it takes several repeats to test each example once; else a round is a repeat.
    """

    test: TestSet
    predicted: tuple[NDArray[np.float32], ...]


def save_predictions(
    location: StudyLocation,
    number: int,
    *,
    example_scores: NDArray[Any],
    predicted: NDArray[Any],
    tested: NDArray[np.int64],
    test: Arrays,
) -> str:
    """Write a confirm trial's file, and once the test set's. Return the trial file's name."""
    name = f"test-{digest(*test.items())[:8]}.npz"
    if not location.predictions_path(name).is_file():
        _write(location.predictions_path(name), test)
    # A name of its own: the same folder may serve several databases, each with a trial of this number.
    own = f"{number:06}-{uuid4().hex[:8]}.npz"
    arrays = {"example_scores": example_scores, "predicted": predicted, "tested": tested, "test": np.array(name)}
    _write(location.predictions_path(own), arrays)
    return own


def with_example_scores(results: Results) -> Results:
    """Return the results with the example scores that the study's folder has."""
    groups: dict[str, NDArray[Any]] = {}
    rows = tuple(_with_scores(results.location, row, groups) for row in results.rows)
    return replace(results, rows=rows, earlier=tuple(map(with_example_scores, results.earlier)))


def _with_scores(location: StudyLocation, row: Row, groups: dict[str, NDArray[Any]]) -> Row:
    """Return a row with its example scores; `groups` keeps those of test sets."""
    if row.predictions_file is None:
        return row
    file = _read(location.predictions_path(row.predictions_file), "example_scores", "tested", "test")
    scores, tested = file.get("example_scores", np.empty(0)), file.get("tested", np.empty(0))
    if scores.ndim != 1 or not len(scores) or not _are_finite(scores) or not _are_places(tested, scores):
        return row
    name = str(file["test"])
    if name not in groups:
        groups[name] = _groups(_read(location.predictions_path(name), "groups").get("groups", np.empty(0)))
    known = groups[name][tested] if len(groups[name]) > tested.max() else None
    return replace(row, example_scores=scores, tested=tested.astype(np.int64), test_groups=known)


def _groups(stored: NDArray[Any]) -> NDArray[np.int64]:
    """Return groups as numbers from 0 on; none if they can't be groups."""
    fits = stored.ndim == 1 and stored.dtype.kind in "iu"
    return np.unique(stored, return_inverse=True)[1] if fits else np.empty(0, dtype=np.int64)


def read_predictions(location: StudyLocation, rows: list[Row]) -> Predictions | None:
    """Read predictions of one strategy's confirm trials; None if missing, broken or of different sets."""
    files = [
        file
        for row in sorted(rows, key=lambda row: row.repeat)
        if row.predictions_file
        and (file := _read(location.predictions_path(row.predictions_file), "predicted", "tested", "test"))
    ]
    names = {str(file["test"]) for file in files}
    if len(names) != 1 or not (kept := _read(location.predictions_path(names.pop()))):
        return None
    test = TestSet(
        targets=kept.get("targets", np.empty(0)),
        classes=tuple(map(str, kept.get("classes", np.empty(0)).ravel())),
        shown=kept.get("shown", np.empty(0, dtype=np.int64)),
        thumbnails=kept.get("thumbnails", np.empty((0, 1, 1, 3), dtype=np.uint8)),
    )
    width = len(test.classes) or test.targets[:1].size
    if not test.is_sound() or not all(_is_sound(file, test, width) for file in files):
        return None
    rounds = _rounds(files, (len(test.targets), width))
    return Predictions(test=test, predicted=tuple(rounds)) if rounds else None


def _is_sound(file: Arrays, test: TestSet, width: int) -> bool:
    predicted, tested = file["predicted"], file.get("tested", np.empty(0))
    shaped = predicted.ndim == 2 and predicted.shape[1] == width and predicted.dtype.kind in "biuf"
    return shaped and _are_places(tested, predicted) and _within(tested, test.targets)


def _rounds(files: Sequence[Arrays], shape: tuple[int, int]) -> list[NDArray[np.float32]]:
    """Join files into predictions of the whole test set; leave out a last, incomplete round."""
    rounds: list[NDArray[np.float32]] = []
    current, seen = np.zeros(shape, dtype=np.float32), np.zeros(shape[0], dtype=bool)
    for file in files:
        current[file["tested"]] = file["predicted"]
        seen[file["tested"]] = True
        if seen.all():
            rounds.append(current)
            current, seen = np.zeros(shape, dtype=np.float32), np.zeros(shape[0], dtype=bool)
    return rounds


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


def _are_places(tested: NDArray[Any], values: Sized) -> bool:
    """Check that these can be indices, one a value, and none twice."""
    one_each = tested.ndim == 1 and len(tested) == len(values) == len(np.unique(tested))
    return bool(one_each and tested.dtype.kind in "iu" and ((tested >= 0) & (tested < MAX_EXAMPLES)).all())
