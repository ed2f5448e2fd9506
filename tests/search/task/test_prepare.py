import numpy as np
import pytest
import torch
from PIL import Image

from search.data.load import load_data
from search.data.split_checks import untested_classes
from search.models.registry import find_network
from search.task.prepare import prepared
from tests.search.projects import study_of


def test_a_source_without_a_test_set_may_be_augmented(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (8, 12, 12), dtype=np.uint8)
    np.savez("source.npz", x=pixels, y=np.arange(8) % 2)
    spec = study_of("digits", "lenet", train={"augment": ["flip"]})
    source = load_data("source.npz", {"test": 0.0}, where="[source] data")
    data = prepared(source, find_network(spec.model), spec, cache=None)
    assert (len(data.pool), len(data.test), data.notes) == (8, 0, ())
    inputs, _ = data.pool.__getitems__([(0, 0), (1, 5)])
    assert inputs.shape == (2, 1, 12, 12)


def scans(tmp_path):
    """Write 12-bit scans of two classes, whose mean greys are 200 levels apart."""
    rng = np.random.default_rng(0)
    for name, level in (("healthy", 800), ("ill", 1000)):
        (tmp_path / "scans" / name).mkdir(parents=True)
        for number in range(30):
            scan = rng.normal(level, 10, (32, 32))
            scan[0, :2] = 0, 4095
            pixels = Image.fromarray(scan.round().astype(np.uint16))
            pixels.save(tmp_path / "scans" / name / f"{number}.png")


def load():
    spec = study_of("scans", "lenet")
    return prepared(load_data("scans", where="[task] data"), find_network(spec.model), spec, cache=None)


def test_twelve_bit_scans_keep_their_levels(tmp_path, monkeypatch):
    """Classes that differ by 200 of 4,096 levels differ by a twentieth of the range, and the note says so."""
    monkeypatch.chdir(tmp_path)
    scans(tmp_path)
    data = load()
    inputs, targets = data.pool.take(torch.arange(len(data.pool)))
    middles = inputs.flatten(1).median(1).values
    apart = middles[targets == 1].mean() - middles[targets == 0].mean()
    assert apart == pytest.approx(200 / 4095, abs=0.001)
    assert "60 of 60 images have more than 8 bits a channel: 0 to 4095 become 0 to 1" in data.notes[-1]


def test_a_class_that_the_test_set_loses_is_named(tmp_path, monkeypatch):
    """The only test image of a class is skipped, and the note says which class has none."""
    monkeypatch.chdir(tmp_path)
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16), dtype=np.uint8))
    for part, count in (("train", 12), ("test", 1)):
        for name in ("cat", "dog"):
            (tmp_path / "scans" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels.save(tmp_path / "scans" / part / name / f"{number}.png")
    (tmp_path / "scans" / "test" / "dog" / "0.png").write_bytes(b"")
    data = load()
    assert "1 of 26 images can't be read: test/dog/0.png" in data.notes[-1]
    assert untested_classes(data) == ["the test set has no example of 1 of 2 classes (dog): none is scored."]


def test_validation_images_count_and_are_prepared(tmp_path, monkeypatch):
    """The data's own validation images are decoded, scaled by the pool's range, and under the same limit."""
    monkeypatch.chdir(tmp_path)
    for part, count, high in (("train", 90, 4000), ("val", 10, 8000), ("test", 10, 2000)):
        for name in ("cat", "dog"):
            (tmp_path / "scans" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.linspace(0, high, 256).astype(np.uint16).reshape(16, 16)
                Image.fromarray(pixels).save(tmp_path / "scans" / part / name / f"{number}.png")
    (tmp_path / "scans" / "val" / "dog" / "0.png").write_bytes(b"")
    data = load()
    highest = {name: part.take(torch.arange(len(part)))[0].amax() for name, part in data.parts.items()}
    assert highest == {"pool": 1, "validation": 2, "test": 0.5}
    assert "1 of 220 images can't be read: val/dog/0.png" in data.notes[-2]
    assert "values from 0 to 8000 occur and are not clipped" in data.notes[-1]
