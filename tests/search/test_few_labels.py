"""A study on the 120 images that somebody has: cross-validated, from its study file to its page."""

import csv

import numpy as np
import pytest
from PIL import Image

STUDY = """
[task]
data = "photos"
sizes = [40, "all"]
[model]
backbone = "lenet"
weights = "none"
options = { channels = 3 }
image_size = 28
[confirm]
repeats = 5
[train]
epochs = 4
steps_per_epoch = 4
accelerator = "cpu"
"""


@pytest.fixture
def photos(tmp_path):
    """Write 120 images in three class folders, and a study file beside them."""
    rng = np.random.default_rng(0)
    for number in range(120):
        label = number % 3
        pixels = rng.integers(0, 120, (16, 16, 3)).astype(np.uint8)
        pixels[:, 5 * label : 5 * label + 6] += 90
        file = tmp_path / "photos" / "abc"[label] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    (tmp_path / "mine.toml").write_text(STUDY)
    return tmp_path


@pytest.mark.slow
def test_few_images_are_judged_by_cross_validation(photos, search):
    """One line says so; nothing is said of test data that are not there."""
    done = search("run", "mine.toml", "--workers", "1", cwd=photos)
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line for line in (done.stdout + done.stderr).splitlines() if "test set" in line]
    assert len(said) == 1
    assert "120 labels and no test set: judged by cross-validation, one part of them at a time." in said[0]
    assert "40 labels: " in done.stdout
    assert "96 labels: " in done.stdout
    page = (photos / "studies" / "mine" / "report.html").read_text()
    assert "cross-validation" in page

    with (photos / "studies" / "mine" / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["judged"] for row in rows} == {"True"}, "the labels that test are not searched on"
    assert {row["size"] for row in rows} == {"40", "96"}
    assert {row["test_examples"] for row in rows} == {"24"}
    with (photos / "studies" / "mine" / "verdict.csv").open() as file:
        verdicts = list(csv.DictReader(file))
    assert {row["size"] for row in verdicts} == {"40", "96"}
    assert all(float(row["low"]) <= float(row["score"]) <= float(row["high"]) for row in verdicts)

    # The same command has nothing left to do; "all" is a size to import.
    before = (photos / "studies" / "mine" / "trials.csv").read_text()
    again = search("run", "mine.toml", "--workers", "1", cwd=photos)
    assert again.returncode == 0
    assert (photos / "studies" / "mine" / "trials.csv").read_text() == before
    best = search("best", "mine", "--size", "96", cwd=photos)
    assert best.returncode == 0
    assert "freeze_depth" in best.stdout
