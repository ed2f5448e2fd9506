import numpy as np
import pytest
from PIL import Image

from search.errors import TaskError
from search.tasks.data import load_data


def write(root, counts):
    for place, count in counts.items():
        (root / place).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = np.full((8, 8), len(list(root.rglob("*"))), dtype=np.uint8)
            Image.fromarray(pixels).save(root / place / f"{number}.PNG")
    return str(root)


def load(name, **options):
    return load_data(name, options, where="[task] data")


def test_a_folder_a_class_with_images_at_any_depth_and_a_test_set_held_out(tmp_path):
    name = write(tmp_path, {"cats": 6, "cats/more": 4, "dogs": 10, "dogs/.hidden": 3, ".git": 2})
    (tmp_path / "dogs" / "notes.txt").touch()
    data = load(name)
    assert data.classes == ("cats", "dogs")
    assert data.pool.targets.bincount().tolist() == [8, 8]
    assert data.test.targets.bincount().tolist() == [2, 2]
    assert load(name, test=0.5).test.targets.bincount().tolist() == [5, 5]
    assert len(load(name, test=0).test) == 0


def test_a_test_folder_is_the_test_set_and_validation_joins_the_pool(tmp_path):
    name = write(tmp_path, {"train/a": 5, "train/b": 5, "val/a": 2, "val/b": 1, "test/a": 4, "test/b": 3})
    data = load(name)
    assert data.pool.targets.bincount().tolist() == [7, 6]
    assert data.test.targets.bincount().tolist() == [4, 3]
    with pytest.raises(TaskError, match=r"option test = 0.3, but these data have a test set of their own"):
        load(name, test=0.3)


@pytest.mark.parametrize("other", ["val", "valid", "Validation"])
def test_without_a_test_folder_validation_is_the_test_set(tmp_path, other):
    data = load(write(tmp_path, {"train/a": 5, "train/b": 5, f"{other}/a": 2, f"{other}/b": 1}))
    assert (len(data.pool), len(data.test)) == (10, 3)


def test_a_folder_of_its_own_may_be_the_test_set(tmp_path):
    name, other = write(tmp_path / "one", {"a": 5, "b": 5}), write(tmp_path / "other", {"a": 2, "b": 2})
    assert (len(load(name, test=other).pool), len(load(name, test=other).test)) == (10, 4)
    with pytest.raises(TaskError, match="option test = 'nowhere' is no folder"):
        load(name, test="nowhere")


def test_a_source_without_labels_takes_every_image(tmp_path):
    data = load(write(tmp_path, {".": 4, "a": 2}), labels=False, test=0)
    assert (data.classes, len(data.pool)) == (("unlabelled",), 6)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"cats": 3, "dogs": 0}, "the class folder .*dogs has no images"),
        ({".": 3}, "has 0 class folders .and 3 images beside them.; at least 2"),
        ({"cats": 3}, "has 1 class folders"),
        ({}, "has 0 class folders .and 0 images"),
        ({"train/a": 3, "train/b": 3, "test/a": 1, "test/c": 1}, "test/c is no class of the training images: a, b"),
    ],
)
def test_folders_that_can_not_be_are_one_line(tmp_path, counts, message):
    (tmp_path / "pets").mkdir()
    name = write(tmp_path / "pets", counts)
    with pytest.raises(TaskError, match=rf"^\[task\] data = '.*pets': .*{message}") as caught:
        load(name)
    assert "\n" not in str(caught.value)
