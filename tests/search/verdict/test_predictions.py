import numpy as np
import pytest

from search.spec.study_spec import StudySpec
from search.storage.location import StudyLocation
from search.verdict.predictions import read_predictions, save_predictions, with_example_scores
from search.verdict.results import Results
from strategies import FreezingStrategy
from tests.search.verdict.rows import row

TEST = {"targets": np.array([0, 1, 1]), "classes": np.array(["cat", "dog"])}


@pytest.fixture
def location(tmp_path):
    return StudyLocation.of("x", out=tmp_path, storage=None)


def save(location, number, *, test=TEST, predicted=None, tested=(0, 1, 2), scores=(True, True, False)):
    predicted = np.eye(2, dtype=np.float16)[[0, 1, 0]] if predicted is None else predicted
    return save_predictions(
        location, number, example_scores=np.array(scores), predicted=predicted, tested=np.array(tested), test=test
    )


def confirm(repeat, file):
    return row(repeat, FreezingStrategy(freeze_depth=0), repeat=repeat, judged=True, predictions_file=file)


def read_scores(location, file):
    """Return a row as the results have it, after its file was read."""
    spec = StudySpec.from_dict(
        {"task": {"data": "digits", "sizes": [50]}, "model": {"backbone": "small_cnn", "weights": "none"}}, where="test"
    )
    rows = (confirm(1, file), row(0, FreezingStrategy(freeze_depth=0)))
    found = with_example_scores(Results(location=location, spec=spec, num_groups=4, rows=rows)).rows
    assert found[1].example_scores is None, "an exploring trial has no file"
    return found[0]


def test_read_gives_what_was_saved(location):
    names = [save(location, number) for number in (1, 2)]
    one = read_scores(location, names[0])
    assert one.example_scores.tolist() == [True, True, False]
    assert one.tested.tolist() == [0, 1, 2]
    assert one.test_groups is None
    found = read_predictions(location, [confirm(2, names[1]), confirm(1, names[0])])
    assert [predicted.tolist() for predicted in found.predicted] == 2 * [[[1, 0], [0, 1], [1, 0]]]
    assert found.test.classes == ("cat", "dog")
    assert found.test.targets.tolist() == [0, 1, 1]
    assert len(found.test.shown) == len(found.test.thumbnails) == 0


def test_read_gives_the_groups_of_the_tested(location):
    name = save(location, 1, test={**TEST, "groups": np.array([7, 8, 7])}, tested=(2, 0, 1))
    found = read_scores(location, name)
    assert found.tested.tolist() == [2, 0, 1]
    assert found.test_groups.tolist() == [0, 0, 1], "numbered from 0"


@pytest.mark.parametrize("groups", [np.array([7, 8]), np.array([[1, 2, 3]]), np.array([0.5, 1, 2])])
def test_read_leaves_out_groups_that_do_not_fit(location, groups):
    name = save(location, 1, test={**TEST, "groups": groups})
    assert read_scores(location, name).test_groups is None


def test_rounds_join_cross_validated_folds(location):
    """Five repeats of three folds: a whole round, and a part of the next, which is left out."""
    folds = [(0, 2), (1,), (0, 1), (2,), (1, 2)]
    files = [
        save(
            location, n, tested=fold, predicted=np.full((len(fold), 2), n, dtype=np.float16), scores=[True] * len(fold)
        )
        for n, fold in enumerate(folds, start=1)
    ]
    found = read_predictions(location, [confirm(n, file) for n, file in enumerate(files, start=1)][::-1])
    assert [predicted[:, 0].tolist() for predicted in found.predicted] == [[1, 2, 1], [3, 3, 4]]
    assert read_predictions(location, [confirm(1, files[0])]) is None, "no whole round"


@pytest.mark.parametrize("tested", [(0, 1), (0, 1, 3), (0, 1, -1), ((0, 1, 2),), (0.0, 1.0, 2.0)])
def test_read_is_none_for_places_that_do_not_fit(location, tested):
    assert read_predictions(location, [confirm(1, save(location, 1, tested=tested))]) is None


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
        name = save(location, 1, test=test, predicted=predicted)
        assert read_predictions(location, [confirm(1, name)]).test.classes == ()


def test_read_is_none_where_files_are_missing_or_broken(location):
    name = save(location, 1)
    assert read_scores(location, None).example_scores is None
    assert read_scores(location, "000009-00000000.npz").example_scores is None
    assert read_predictions(location, []) is None
    file = location.predictions_path(name)
    whole = file.read_bytes()
    for content in (b"", b"no archive", whole[: len(whole) // 2], whole[:60] + b"\0" * 40 + whole[100:]):
        file.write_bytes(content)
        assert read_scores(location, name).example_scores is None
    for content in (b"", whole[: len(whole) // 2]):
        file.write_bytes(content)
        assert read_predictions(location, [confirm(1, name)]) is None
    file.write_bytes(whole)
    (tests,) = set(file.parent.glob("test-*.npz"))
    tests.unlink()
    assert read_predictions(location, [confirm(1, name)]) is None
    assert read_scores(location, name).example_scores is not None


def test_read_runs_no_code(location):
    file = location.predictions_path("evil.npz")
    file.parent.mkdir(parents=True)
    np.savez(file, example_scores=np.array([print], dtype=object), tested=np.arange(1), test=np.array("x.npz"))
    assert read_scores(location, "evil.npz").example_scores is None


def test_names_stay_in_the_folder(location):
    assert location.predictions_path("../../secret.npz") == location.folder / "confirm" / "secret.npz"
