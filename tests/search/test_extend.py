"""More labels later, by the command: a folder of images that grows, and a run that is killed."""

import csv
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from search.api import load_repeat
from search.run import extend
from search.run_config import RunConfig
from search.storage.location import StudyLocation
from search.verdict.load import load_results
from tests.search.sessions import Session

STUDY = """
[task]
data = "images"
sizes = [10]
test = "cv"
[model]
backbone = "lenet"
weights = "none"
[train]
epochs = 1
steps_per_epoch = 1
accelerator = "cpu"
[space]
freeze_depth = [0, 1]
[search]
trials = 3
[confirm]
repeats = 5
"""


def grow(folder, *, first, last):
    """Add images of two classes."""
    dice = np.random.default_rng(first)
    for number in range(first, last):
        file = folder / "images" / f"class{number % 2}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = dice.integers(0, 128, (28, 28), dtype=np.uint8) + np.uint8(64 * (number % 2))
        Image.fromarray(pixels).save(file)


def rows_in(folder):
    return load_results(StudyLocation.of("grown", out=folder / "studies", storage=None)).every_row


def stored(rows):
    return {
        (row.judged, row.number): (row.strategy, row.repeat, row.extension, row.value, row.seconds, dict(row.scores))
        for row in rows
        if row.is_finished
    }


@pytest.mark.slow
def test_images_added_are_drawn_by_new_repeats(tmp_path, monkeypatch, search):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grown.toml").write_text(STUDY)
    command = ["run", "grown.toml", "--workers", "1"]
    grow(tmp_path, first=0, last=100)
    assert search(*command, cwd=tmp_path).returncode == 0
    before = stored(rows_in(tmp_path))

    grow(tmp_path, first=100, last=120)
    (tmp_path / "grown.toml").write_text(STUDY.replace("[10]", "[10, 20]"))  # so that trials are left to run
    refused = search(*command, cwd=tmp_path)
    (tmp_path / "grown.toml").write_text(STUDY)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "grown.toml: Study 'grown' was created with other data: [task] data = 'images' has changed" in refused.stderr
    assert "--extend" in refused.stderr
    assert stored(rows_in(tmp_path)) == before

    def has_new():
        return sum(row.is_finished and row.extension == 1 for row in rows_in(tmp_path)) > 1

    with Session(tmp_path, [sys.executable, "-m", "search", *command, "--extend"]) as killed:
        killed.until(has_new)
    during = stored(rows_in(tmp_path))
    assert before.items() <= during.items(), "what was run stays, to the bit"

    done = search(*command, "--extend", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    after = stored(rows_in(tmp_path))
    assert during.items() <= after.items()
    judged = Counter((row.extension, row.strategy, row.repeat) for row in rows_in(tmp_path) if row.judged)
    assert {*judged.values()} == {1}
    assert len([place for place in judged if place[0] == 0]) == len([place for place in judged if place[0] == 1])
    assert "Labels were added: repeats drew from 100 labels, then from 120." in done.stdout
    assert "At 10, drawn from 100 labels, it was: " in done.stdout

    # Examples are counted class by class, in the order of their names.
    numbers = [int(path.stem) for label in "01" for path in sorted((tmp_path / "images" / f"class{label}").iterdir())]
    task = load_repeat("grown.toml", size=10, repeat=1).task
    drawn = {numbers[place] for repeat in range(1, 6) for place in task.split(repeat=repeat, size=10).train}
    assert any(number >= 100 for number in drawn)
    with (tmp_path / "studies" / "grown" / "verdict.csv").open() as file:
        table = [*csv.DictReader(file)]
    assert {row["labels"] for row in table} == {"100", "120"}
    with (tmp_path / "studies" / "grown" / "trials.csv").open() as file:
        assert {(row["labels"], row["judged"]) for row in csv.DictReader(file)} == {
            ("100", "True"), ("120", "True"),
        }  # fmt: skip

    next((tmp_path / "images" / "class0").iterdir()).unlink()
    grow(tmp_path, first=200, last=210)
    refused = search(*command, "--extend", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "of 120 examples that study 'grown' has used, 1 are gone from [task] data = 'images'" in refused.stderr
    assert stored(rows_in(tmp_path)) == after


def test_extend_leaves_a_new_study_to_the_run(tiny):
    extend(RunConfig.of("tiny.toml"), console=Console())
    assert [path.name for path in tiny.parent.iterdir()] == ["tiny.toml"]
