import numpy as np
import pytest

from search.storage.location import StudyLocation
from search.verdict.predictions import (
    read_example_scores,
    read_predictions,
    save_predictions,
)
from strategies import FreezingStrategy
from tests.search.verdict.rows import row

TEST = {"targets": np.array([0, 1, 1]), "classes": np.array(["cat", "dog"])}


@pytest.fixture
def location(tmp_path):
    return StudyLocation.of("x", out=tmp_path, storage=None)


def save(location, number, *, test=TEST, predicted=None):
    predicted = np.eye(2, dtype=np.float16)[[0, 1, 0]] if predicted is None else predicted
    return save_predictions(
        location, number, example_scores=np.array([True, True, False]), predicted=predicted, test=test
    )


def confirm(repeat, file):
    return row(repeat, FreezingStrategy(freeze_depth=0), repeat=repeat, source_trial=0, predictions_file=file)


def test_read_gives_what_was_saved(location):
    names = [save(location, number) for number in (1, 2)]
    assert read_example_scores(location, names[0]).tolist() == [True, True, False]
    found = read_predictions(location, [confirm(2, names[1]), confirm(1, names[0])])
    assert found.repeats == (1, 2)
    assert found.predicted[0].tolist() == [[1, 0], [0, 1], [1, 0]]
    assert found.test.classes == ("cat", "dog")
    assert found.test.targets.tolist() == [0, 1, 1]
    assert len(found.test.shown) == len(found.test.thumbnails) == 0


def test_save_writes_the_test_set_once(location):
    names = [save(location, number) for number in range(4)]
    files = {file.name for file in (location.folder / "confirm").iterdir()}
    assert len(set(names)) == 4
    assert len(files - set(names)) == 1


def test_read_is_none_for_different_test_sets(location):
    other = save(location, 2, test={**TEST, "targets": np.array([1, 1, 1])})
    assert read_predictions(location, [confirm(1, save(location, 1)), confirm(2, other)]) is None


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (3,)])
def test_read_is_none_where_shapes_do_not_fit(location, shape):
    assert read_predictions(location, [confirm(1, save(location, 1, predicted=np.zeros(shape)))]) is None


def test_read_takes_one_output_or_several(location):
    for targets in (np.zeros(3, dtype=np.float32), np.zeros((3, 4), dtype=np.float32)):
        test = {"targets": targets, "classes": np.array([], dtype=np.str_)}
        predicted = np.zeros((3, targets[:1].size), dtype=np.float32)
        assert (
            read_predictions(location, [confirm(1, save(location, 1, test=test, predicted=predicted))]).test.classes
            == ()
        )


def test_read_is_none_where_files_are_missing_or_broken(location):
    name = save(location, 1)
    assert read_example_scores(location, None) is None
    assert read_example_scores(location, "000009-00000000.npz") is None
    assert read_predictions(location, []) is None
    file = location.predictions_path(name)
    whole = file.read_bytes()
    for content in (b"", b"no archive", whole[: len(whole) // 2], whole[:60] + b"\0" * 40 + whole[100:]):
        file.write_bytes(content)
        assert read_example_scores(location, name) is None
    for content in (b"", whole[: len(whole) // 2]):
        file.write_bytes(content)
        assert read_predictions(location, [confirm(1, name)]) is None
    file.write_bytes(whole)
    (tests,) = set(file.parent.glob("test-*.npz"))
    tests.unlink()
    assert read_predictions(location, [confirm(1, name)]) is None
    assert read_example_scores(location, name) is not None


def test_read_runs_no_code(location):
    file = location.predictions_path("evil.npz")
    file.parent.mkdir(parents=True)
    np.savez(file, example_scores=np.array([print], dtype=object))
    assert read_example_scores(location, "evil.npz") is None


def test_names_stay_in_the_folder(location):
    assert location.predictions_path("../../secret.npz") == location.folder / "confirm" / "secret.npz"
