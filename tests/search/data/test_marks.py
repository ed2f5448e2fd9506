"""Marks of examples: each is known again after others were added, and not after it was changed."""

import numpy as np
import pytest
from PIL import Image

from search.data.load import load_data


def common(before, after):
    """Return how many of the marks before are still there."""
    return len(before) - sum(mark not in {*after.tolist()} for mark in before.tolist())


def marks_of(name, **options):
    return load_data(str(name), options, where="[task] data").marks


def folder_of(root, *, images):
    for number in range(images):
        file = root / f"class{number % 2}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4 + number % 3), number, dtype=np.uint8)).save(file)
    return root


def npz_of(file, *, rows):
    x = np.arange(rows * 12.0).reshape(rows, 12).astype(np.float32)
    np.savez(file, x=x, y=np.arange(rows) % 2)
    return file


def texts_of(file, *, rows):
    lines = [f"text {number},{'ab'[number % 2]}" for number in range(rows)]
    file.write_text("\n".join(["text,label", *lines]))
    return file


def series_of(file, *, rows):
    """Write series of which later ones are longer, so that all are padded further."""
    steps = [f"{name},{'ab'[name % 2]},{name + step}" for name in range(rows) for step in range(3 + name // 8)]
    file.write_text("\n".join(["name,label,value", *steps]))
    return file


KINDS = {
    "images": (lambda place, count: folder_of(place / "images", images=count), {}),
    "npz": (lambda place, count: npz_of(place / "a.npz", rows=count), {}),
    "standardized": (lambda place, count: npz_of(place / "a.npz", rows=count), {"standardize": True}),
    "texts": (lambda place, count: texts_of(place / "a.csv", rows=count), {"text": "text"}),
    "series": (
        lambda place, count: series_of(place / "a.csv", rows=count),
        {"series": "name", "label": "label", "channels": ["value"]},
    ),
}


@pytest.mark.parametrize("test", ["cv", 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_examples_are_known_again_after_others_were_added(tmp_path, kind, test):
    make, options = KINDS[kind]
    before = marks_of(make(tmp_path, 20), test=test, **options)
    after = marks_of(make(tmp_path, 26), test=test, **options)
    assert (len(before), len({*before.tolist()}), len(after)) == (20, 20, 26)
    assert common(before, after) == 20


def test_changed_image_or_label_is_not_known_again(tmp_path):
    folder = folder_of(tmp_path / "images", images=20)
    before = marks_of(folder)
    (folder / "class0" / "2.png").rename(folder / "class1" / "2.png")
    Image.fromarray(np.zeros((9, 9), dtype=np.uint8)).save(folder / "class0" / "4.png")
    assert common(before, marks_of(folder)) == 18


def test_changed_row_is_not_known_again(tmp_path):
    file = texts_of(tmp_path / "a.csv", rows=20)
    before = marks_of(file, text="text")
    file.write_text(file.read_text().replace("text 3,b", "text 3,a").replace("text 4,a", "text four,a"))
    assert common(before, marks_of(file, text="text")) == 18


def test_windows_of_a_series_have_no_marks(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("\n".join(["v", *map(str, range(60))]))
    assert marks_of(file, target="v", window=4) is None
