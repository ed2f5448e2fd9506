import os

import numpy as np
import pytest
from PIL import Image

from search.data.images import ImageFormat
from search.data.load import load_data
from search.errors import TaskError
from tests.search.data.pictures import prepare_one

FORMAT = ImageFormat(size=8, resize=8, mean=(0.0,), std=(1.0,))


def write(root, counts):
    for place, count in counts.items():
        (root / place).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = np.full((8, 8), len(list(root.rglob("*"))), dtype=np.uint8)
            Image.fromarray(pixels).save(root / place / f"{number}.PNG")
    return str(root)


def load(name, **options):
    return load_data(name, options, where="[task] data")


def test_images_are_read_at_any_depth_below_their_class(tmp_path):
    name = write(tmp_path, {"cats": 6, "cats/more": 4, "dogs": 10, "dogs/.hidden": 3, ".git": 2})
    (tmp_path / "dogs" / "notes.txt").touch()
    data = load(name)
    assert data.classes == ("cats", "dogs")
    assert data.pool.targets.bincount().tolist() == [10, 10]
    assert data.cross_validated
    assert load(name, test=0.2).test.targets.bincount().tolist() == [2, 2]
    assert load(name, test=0.5).test.targets.bincount().tolist() == [5, 5]
    assert len(load(name, test=0).test) == 0


def test_a_class_may_be_called_train(tmp_path):
    assert load(write(tmp_path, {"bus": 4, "train": 4})).classes == ("bus", "train")


def test_names_of_any_bytes_are_read_and_printable(tmp_path):
    name = write(tmp_path / "x", {"a b": 100, "ünï": 100})
    os.rename(tmp_path / "x" / "a b" / "0.PNG", os.fsencode(tmp_path / "x" / "a b") + b"/\xff\n.png")
    os.symlink("nowhere", tmp_path / "x" / "ünï" / "link.png")
    (tmp_path / "x" / "a b" / "\x1b[31m.png").touch()
    data = load(name, test=0)
    ready, notes = prepare_one(data.pool, FORMAT, cache=tmp_path / "cache")
    assert len(ready) == 200
    assert notes[0].isprintable()
    assert r"2 of 202 images can't be read: x/a b/\x1b[31m.png (it is no image)" in notes[0]
    assert "x/ünï/link.png (No such file or directory)" in notes[0]
    (tmp_path / "x" / "c\nd").mkdir()
    with pytest.raises(TaskError, match=r"x/c\\nd can't name a class; rename it"):
        load(name)


def test_a_file_in_both_sets_gets_a_note(tmp_path):
    name = write(tmp_path, {"train/a": 5, "train/b": 5, "test/a": 2, "test/b": 2})
    os.link(tmp_path / "train" / "b" / "1.PNG", tmp_path / "test" / "b" / "again.png")
    assert "1 of 5 test examples are in the pool as well (the first is number 4)" in load(name).notes[0]


def test_a_moved_folder_keeps_its_fingerprint(tmp_path):
    write(tmp_path / "pets", {"a": 5, "b": 5})
    before = load(str(tmp_path / "pets")).fingerprint
    (tmp_path / "pets").rename(tmp_path / "moved")
    assert load(str(tmp_path / "moved")).fingerprint == before
    (tmp_path / "moved" / "a" / "0.PNG").write_bytes(b"other")
    assert load(str(tmp_path / "moved")).fingerprint != before


def test_validation_stays_apart_beside_a_test_folder(tmp_path):
    """Its images validate, and never train."""
    name = write(tmp_path, {"train/a": 5, "train/b": 5, "val/a": 2, "val/b": 1, "test/a": 4, "test/b": 3})
    data = load(name)
    assert data.pool.targets.bincount().tolist() == [5, 5]
    assert data.validation.targets.bincount().tolist() == [2, 1]
    assert data.test.targets.bincount().tolist() == [4, 3]
    with pytest.raises(TaskError, match=r"test = 0.3, but these data have a test set of their own"):
        load(name, test=0.3)


@pytest.mark.parametrize("other", ["val", "valid", "Validation"])
def test_without_a_test_folder_validation_is_the_test_set(tmp_path, other):
    data = load(write(tmp_path, {"train/a": 5, "train/b": 5, f"{other}/a": 2, f"{other}/b": 1}))
    assert (len(data.pool), len(data.test)) == (10, 3)


def test_a_folder_of_its_own_may_be_the_test_set(tmp_path):
    name, other = write(tmp_path / "one", {"a": 5, "b": 5}), write(tmp_path / "other", {"a": 2, "b": 2})
    assert (len(load(name, test=other).pool), len(load(name, test=other).test)) == (10, 4)
    with pytest.raises(TaskError, match="test = 'nowhere' is no folder"):
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
def test_impossible_folders_are_refused_in_one_line(tmp_path, counts, message):
    (tmp_path / "pets").mkdir()
    name = write(tmp_path / "pets", counts)
    with pytest.raises(TaskError, match=rf"^\[task\] data = '.*pets': .*{message}") as caught:
        load(name)
    assert "\n" not in str(caught.value)
