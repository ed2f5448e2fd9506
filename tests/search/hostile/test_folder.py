"""Broken files in a study's folder: treated as missing, and nothing leaves the folder."""

import os
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from search.files import BrokenArchive, read_arrays, replacing
from search.report.test_examples import section
from search.storage.location import StudyLocation
from search.verdict.judge import judge
from search.verdict.load import load_results
from tests.search.hostile.archives import ARCHIVES, bomb

ARRAYS = {
    "of words": np.array(["a"] * 60),
    "of no axis": np.array(1.0),
    "of NaN": np.full(60, np.nan),
    "of records": np.zeros(60, dtype=[("a", int)]),
}
NAMES = {
    "a path": "../../../../outside/x.npz",
    "absolute": "OUTSIDE/x.npz",
    "a NUL": "a\0.npz",
    "long": "x" * 10**6,
    "a surrogate": "\udcff.npz",
}
PLACES = {
    **ARRAYS,
    "of fewer": np.arange(59),
    "below 0": np.arange(60) - 1,
    "twice": np.arange(60) // 2,
    "decimal": np.arange(60) / 1,
    "beyond all numbers": np.full(60, 2**64 - 1, dtype=np.uint64),
    "in rows": np.arange(60)[:, None],
    "absent": None,
}
GROUPS = [*ARRAYS, "of fewer", "decimal", "in rows", "absent"]
CHANGES = {
    "shown beyond": {"shown": np.array([0, 1, 10**6])},
    "targets beyond": {"targets": np.full(60, -1)},
    "empty pictures": {"thumbnails": np.zeros((3, 0, 0, 3), dtype=np.uint8)},
    "fewer pictures": {"thumbnails": np.zeros((1, 8, 8, 3), dtype=np.uint8)},
    "tested beyond": {"targets": np.arange(59) % 10},
    "no targets": {"classes": None, "targets": None},
}


@pytest.fixture(scope="module")
def whole(original):
    """Return the results before anybody wrote into the folder, and a verdict of theirs."""
    results = load_results(StudyLocation.of("tiny", out=original.parent, storage=None))
    return results, judge(results, 40)


def are_missing(study):
    """No row has example scores."""
    return all(row.example_scores is None for row in study.results.rows)


def section_of(study, whole):
    """Return the page's section about the test set."""
    results, verdict = whole
    return section(replace(results, location=StudyLocation.of("tiny", out=study.folder.parent, storage=None)), verdict)


@pytest.mark.parametrize("attack", ARCHIVES)
def test_predictions_that_are_no_arrays_are_missing(study, sandbox, attack):
    for file in study.files():
        file.write_bytes(ARCHIVES[attack](sandbox))
    sandbox.arm()
    assert are_missing(study)
    sandbox.check()


@pytest.mark.parametrize(("name", "attack"), [*product(["example_scores"], ARRAYS), *product(["tested"], PLACES)])
def test_scores_of_another_kind_are_missing(study, sandbox, name, attack):
    study.rewrite("0*.npz", **{name: PLACES[attack]})
    sandbox.arm()
    assert are_missing(study)
    sandbox.check()


@pytest.mark.parametrize("attack", GROUPS)
def test_groups_that_do_not_fit_are_missing(study, sandbox, attack):
    study.rewrite("test-*.npz", groups=PLACES[attack])
    sandbox.arm()
    results = study.results
    assert all(row.example_scores is not None and row.test_groups is None for row in results.rows if row.judged)
    assert judge(results, 40) is not None
    sandbox.check()


@pytest.mark.parametrize(("kind", "first"), [("int64", -(2**63)), ("int64", 2**63 - 60), ("uint64", 2**64 - 60)])
def test_groups_may_have_any_numbers(study, whole, kind, first):
    numbers = [first + place // 3 for place in range(60)]
    study.rewrite("test-*.npz", groups=np.array(numbers, dtype=kind))
    assert judge(study.results, 40) == whole[1]


@pytest.mark.parametrize("each", ["another", "its own", "far"])
def test_runs_that_tested_other_examples_are_judged(study, sandbox, each):
    """Nobody tested what another tested: the verdict is that without a folder."""
    for number, file in enumerate(study.files()[:-1]):
        start = {"another": 60 * (number % 2), "its own": 60 * number, "far": 10**15 * number}[each]
        study.rewrite(file.name, tested=np.arange(start, start + 60))
    sandbox.arm()
    verdict = judge(study.results, 40)
    assert verdict is not None
    assert all(one.low <= one.score <= one.high for one in verdict.every_candidate)
    sandbox.check()


@pytest.mark.parametrize("name", ["predicted", "test", "tested", "targets", "classes", "shown", "thumbnails"])
def test_arrays_of_another_kind_break_no_page(study, sandbox, whole, name):
    for content in ARRAYS.values():
        study.rewrite("0*.npz" if name in ("predicted", "test", "tested") else "test-*.npz", **{name: content})
        sandbox.arm()
        assert "At 40 labels" in section_of(study, whole)
        sandbox.check()


@pytest.mark.parametrize("change", CHANGES)
def test_arrays_that_do_not_fit_break_no_page(study, sandbox, whole, change):
    study.rewrite("test-*.npz", **CHANGES[change])
    sandbox.arm()
    assert "are not here" in section_of(study, whole)
    sandbox.check()


def test_arrays_that_fit_are_shown(study, whole):
    assert len(study.files()) == 31
    assert "Precision and recall" in section_of(study, whole)


@pytest.mark.parametrize("name", NAMES)
def test_stored_name_of_predictions_stays_in_the_folder(study, sandbox, name):
    (sandbox.outside / "x.npz").write_bytes(study.files()[0].read_bytes())
    stored = NAMES[name].replace("OUTSIDE", str(sandbox.outside))
    study.trials("predictions_file", stored)
    study.rewrite("0*.npz", test=np.array(stored[:1000]))
    sandbox.arm()
    assert are_missing(study)
    sandbox.check()


@pytest.mark.parametrize("kind", ["pipe", "folder", "/dev/zero", "link"])
def test_predictions_that_are_no_files_are_missing(study, sandbox, kind):
    def link(file):
        (sandbox.outside / file.name).write_bytes(content)
        file.symlink_to(sandbox.outside / file.name)

    make = {"pipe": os.mkfifo, "folder": os.mkdir, "link": link}.get(kind, lambda file: file.symlink_to(kind))
    for file in study.files()[:-1]:
        content = file.read_bytes()
        file.unlink()
        make(file)
    sandbox.seen.clear()
    assert are_missing(study)
    assert sandbox.seen == []


def test_writing_replaces_a_link(study, sandbox, frostline):
    for name in ("report.html", "trials.csv"):
        (study.folder / name).symlink_to(sandbox.outside / "treasure.toml")
    sandbox.arm()
    assert frostline("report", "tiny").code == 0
    sandbox.check(written=True)
    assert not (study.folder / "report.html").is_symlink()


def test_failed_writing_leaves_nothing(sandbox):
    def write():
        with replacing(sandbox.work / "x") as stream:
            stream.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        write()
    sandbox.check()


def test_bomb_is_refused_by_its_unpacked_size(tmp_path):
    file = tmp_path / "x.npz"
    file.write_bytes(bomb())
    with pytest.raises(BrokenArchive, match=r"its 1.9 MB unpack to 2.0 GB"):
        read_arrays(file)
