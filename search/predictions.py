"""What a study's folder keeps of its confirm trials: who got which test example right, and what was predicted.

    confirm/000012-3f2a9c01.npz   a trial: `outcome` (N,), `predicted` (N, C) or (N, K), `test`: the name of
    confirm/test-5b0c7e21.npz     the test set: `targets`, `classes`, and of images `shown` and `thumbnails`

numpy only; nothing pickled is ever read.
"""

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from search.home import Home
from search.rows import Row

Arrays = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TestSet:
    """The test set as far as it is kept; `shown` (M,) and `thumbnails` (M, h, w, 3) are empty but for images."""

    __test__ = False  # pytest: this is no test

    targets: NDArray[Any]
    classes: tuple[str, ...]
    shown: NDArray[np.int64]
    thumbnails: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """What one strategy's confirm trials predicted of the test set, one (N, C) or (N, K) a chain."""

    test: TestSet
    chains: tuple[int, ...]
    predicted: tuple[NDArray[np.float32], ...]


def save_outcomes(home: Home, number: int, *, outcome: NDArray[Any], predicted: NDArray[Any], test: Arrays) -> str:
    """Write a confirm trial's file, and that of the test set where it is not there yet; returns the trial's."""
    known = blake2b(repr([(key, test[key].dtype, test[key].shape) for key in test]).encode(), digest_size=4)
    for content in test.values():
        known.update(content.tobytes())
    name = f"test-{known.hexdigest()}.npz"
    if not home.outcomes_file(name).is_file():
        _write(home.outcomes_file(name), test)
    # A name of its own: the same folder may serve several databases, each with a trial of this number.
    own = f"{number:06}-{uuid4().hex[:8]}.npz"
    _write(home.outcomes_file(own), {"outcome": outcome, "predicted": predicted, "test": np.array(name)})
    return own


def read_outcome(home: Home, name: str | None) -> NDArray[Any] | None:
    """Each test example's outcome (N,) in that file; None where it is not to be had."""
    return None if name is None else _read(home.outcomes_file(name), "outcome").get("outcome")


def read_predictions(home: Home, rows: list[Row]) -> Predictions | None:
    """What these confirm trials of one strategy predicted; None where the study's folder does not tell."""
    files = {row.chain: _read(home.outcomes_file(row.outcomes), "predicted", "test") for row in rows if row.outcomes}
    names = {str(file["test"]) for file in files.values() if file}
    if len(names) != 1 or not (kept := _read(home.outcomes_file(names.pop()))):
        return None
    targets = kept.get("targets", np.empty(0))
    found = {chain: file["predicted"] for chain, file in sorted(files.items()) if file}
    width = len(kept.get("classes", ())) or targets[:1].size
    if any(predicted.shape != (len(targets), width) for predicted in found.values()):
        return None
    test = TestSet(
        targets=targets,
        classes=tuple(map(str, kept.get("classes", ()))),
        shown=kept.get("shown", np.empty(0, dtype=np.int64)),
        thumbnails=kept.get("thumbnails", np.empty((0, 1, 1, 3), dtype=np.uint8)),
    )
    return Predictions(
        test=test, chains=tuple(found), predicted=tuple(array.astype(np.float32) for array in found.values())
    )


def precision_recall(scores: NDArray[Any], positive: NDArray[np.bool_], recalls: NDArray[Any]) -> NDArray[np.float64]:
    """The best precision at each of these recalls or above, from scores (N,): the interpolated curve.

    `positive` (N,) says which examples are of the class; at least one is.
    """
    precision, recall = _thresholds(scores, positive)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return np.asarray(best[np.minimum(np.searchsorted(recall, recalls - 1e-9), len(best) - 1)])


def average_precision(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Precision, averaged over the steps in recall (not interpolated), from scores (N,)."""
    precision, recall = _thresholds(scores, positive)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def _thresholds(scores: NDArray[Any], positive: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(positive[order])[last_of_ties]
    return hits / (last_of_ties + 1), hits / positive.sum()


def _write(file: Path, arrays: Arrays) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.stem}-{uuid4().hex[:8]}.partial")
    with partial.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    partial.replace(file)


def _read(file: Path, *names: str) -> dict[str, NDArray[Any]]:
    """These arrays of a file, or all; empty where it is not there, not whole, or not ours."""
    try:
        # Opened here, because numpy leaves a file that is no archive open.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            return {name: content[name] for name in names or content.files}
    except (OSError, KeyError, ValueError, TypeError, EOFError, zlib.error, zipfile.BadZipFile):
        return {}
