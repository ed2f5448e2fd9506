"""Files in a study's folder that are not what their names say: as good as not there, and nothing leaves the folder."""

import os
from dataclasses import replace

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
    "of two axes": np.ones((60, 2)),
    "of no axis": np.array(1.0),
    "of complex numbers": np.ones(60, dtype=complex),
    "of times": np.zeros(60, dtype="datetime64[s]"),
    "of NaN": np.full(60, np.nan),
    "of records": np.zeros(60, dtype=[("a", int)]),
    "of bytes": np.array([b"\xff"] * 60),
}
NAMES = {
    "a path": "../../../outside/x.npz",
    "absolute": "/etc/passwd",
    "the folder": "..",
    "nothing": "",
    "a NUL": "a\0.npz",
    "a newline": "a\nb.npz",
    "long": "x" * 10**6,
    "a surrogate": "\udcff.npz",
    "a drive": "C:\\x.npz",
    "a URL": "file:///etc/passwd",
}


@pytest.fixture(scope="module")
def whole(told):
    """The results before anybody wrote into the folder, and a verdict of theirs."""
    results = load_results(StudyLocation.of("tiny", out=told.parent, storage=None))
    return results, judge(results, 40)


@pytest.mark.parametrize("attack", ARCHIVES)
def test_outcomes_that_are_no_arrays_are_as_good_as_lost(study, sandbox, attack):
    for file in study.outcomes():
        file.write_bytes(ARCHIVES[attack](sandbox))
    sandbox.arm()
    results = load_results(StudyLocation.of("tiny", out=study.folder.parent, storage=None))
    assert all(row.example_scores is None for row in results.rows)
    sandbox.check()


@pytest.mark.parametrize("attack", ARRAYS)
def test_outcomes_of_another_kind_are_as_good_as_lost(study, sandbox, attack):
    study.rewrite("0*.npz", example_scores=ARRAYS[attack])
    sandbox.arm()
    results = load_results(StudyLocation.of("tiny", out=study.folder.parent, storage=None))
    assert all(row.example_scores is None for row in results.rows)
    sandbox.check()


@pytest.mark.parametrize("name", ["predicted", "test", "targets", "classes", "shown", "thumbnails"])
@pytest.mark.parametrize("attack", ARRAYS)
def test_arrays_of_another_kind_break_no_page(study, sandbox, whole, attack, name):
    study.rewrite("0*.npz" if name in ("predicted", "test") else "test-*.npz", **{name: ARRAYS[attack]})
    sandbox.arm()
    assert "At 40 labels" in shown(study, whole)
    sandbox.check()


@pytest.mark.parametrize(
    "change",
    [
        {"shown": np.array([0, 1, 10**6])},
        {"shown": np.array([0, 1, -1])},
        {"targets": np.full(60, 10)},
        {"targets": np.full(60, -1)},
        {"thumbnails": np.zeros((3, 0, 0, 3), dtype=np.uint8)},
        {"thumbnails": np.zeros((1, 8, 8, 3), dtype=np.uint8)},
        {"classes": None, "targets": None},
    ],
    ids=lambda change: ", ".join(change),
)
def test_arrays_that_do_not_fit_break_no_page(study, sandbox, whole, change):
    study.rewrite("test-*.npz", **change)
    sandbox.arm()
    assert "which is not here" in shown(study, whole)
    sandbox.check()


def test_arrays_that_do_fit_are_shown(study, whole):
    assert len(study.outcomes()) == 21
    assert "Precision and recall" in shown(study, whole)


def shown(study, whole):
    """What the page says of the test set."""
    results, verdict = whole
    return section(replace(results, location=StudyLocation.of("tiny", out=study.folder.parent, storage=None)), verdict)


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_name_of_outcomes_does_not_leave_the_folder(study, sandbox, name):
    (sandbox.outside / "x.npz").write_bytes(study.outcomes()[0].read_bytes())
    study.trials("predictions_file", NAMES[name])
    study.rewrite("0*.npz", test=np.array(NAMES[name][:1000]))
    sandbox.arm()
    results = load_results(StudyLocation.of("tiny", out=study.folder.parent, storage=None))
    assert all(row.example_scores is None for row in results.rows)
    sandbox.check()


def test_nor_does_a_link(study, sandbox):
    for file in study.outcomes()[:-1]:
        (sandbox.outside / file.name).write_bytes(file.read_bytes())
        file.unlink()
        file.symlink_to(sandbox.outside / file.name)
    sandbox.arm()
    assert all(
        row.example_scores is None
        for row in load_results(StudyLocation.of("tiny", out=study.folder.parent, storage=None)).rows
    )
    sandbox.check()


@pytest.mark.parametrize("kind", ["pipe", "folder", "/dev/zero"])
def test_a_name_that_is_no_file_is_not_waited_for(study, sandbox, kind):
    for file in study.outcomes()[:-1]:
        file.unlink()
        {"pipe": os.mkfifo, "folder": os.mkdir}.get(kind, lambda path: path.symlink_to("/dev/zero"))(file)
    assert all(
        row.example_scores is None
        for row in load_results(StudyLocation.of("tiny", out=study.folder.parent, storage=None)).rows
    )


def test_what_is_written_replaces_a_link_and_does_not_follow_it(study, sandbox, frostline):
    for name in ("report.html", "trials.csv"):
        (study.folder / name).symlink_to(sandbox.outside / "treasure.toml")
    sandbox.arm()
    assert frostline("report", "tiny").code == 0
    sandbox.check(written=True)
    assert not (study.folder / "report.html").is_symlink()


def test_what_can_not_be_written_leaves_nothing(sandbox):
    def write():
        with replacing(sandbox.work / "x") as stream:
            stream.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        write()
    sandbox.check()


def test_a_bomb_is_told_by_what_it_would_unpack_to(tmp_path):
    file = tmp_path / "x.npz"
    file.write_bytes(bomb())
    with pytest.raises(BrokenArchive, match=r"its 1.9 MB unpack to 2.0 GB"):
        read_arrays(file)
