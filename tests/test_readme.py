"""The README's snippet: it trains what a study judged, to the bit."""

import csv
import re
import warnings
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY

ROOT = Path(__file__).resolve().parents[1]

SERIES = """
[task]
data = "vowels/JapaneseVowels_TRAIN.ts"
sizes = [45]
[model]
backbone = "lstm"
weights = "none"
options = { input_size = 12, hidden_size = 16, num_layers = 2 }
[train]
epochs = 3
steps_per_epoch = 3
accelerator = "cpu"
[search]
trials = 6
[confirm]
repeats = 2
"""


def snippet() -> str:
    """Return the README's code, from the imported strategy to the accuracy."""
    section = (ROOT / "README.md").read_text().split("## Take the answer")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.S)
    assert len(blocks) == 3
    return f"{blocks[0]}\n{blocks[2]}"


@pytest.fixture
def assets_vowels(assets, tmp_path, monkeypatch):
    """Put the spoken vowels into an empty working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vowels").symlink_to(assets / "japanese-vowels")
    return tmp_path


def check(study: str, size: int, search) -> None:
    """Run a study, then the snippet on each repeat of its recommended strategy; compare test accuracies."""
    done = search("run", f"{study}.toml", "--workers", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    with Path(f"studies/{study}/verdict.csv").open() as file:
        recommended = next(row for row in csv.DictReader(file) if "recommended" in row["status"])
    with Path(f"studies/{study}/trials.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["judged"] == "True" and r["strategy"] == recommended["strategy"]]
    judged = {int(row["repeat"]): float(row["test_accuracy"]) for row in rows}
    assert judged
    text = snippet().replace('"digits"', f'"{study}"').replace("size=200", f"size={size}")
    for repeat, accuracy in judged.items():
        names: dict = {}
        torch.manual_seed(repeat)  # whatever came before
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Lightning, which would rather have other loggers and loaders
            exec(text.replace("repeat=1", f"repeat={repeat}"), names)
        assert names["accuracy"].item() == accuracy


@pytest.mark.usefixtures("one_thread", "tiny")
@pytest.mark.slow
def test_snippet_gives_the_test_score_of_images(search):
    """The recommended strategy's, on each repeat, with weighed classes."""
    weighed = TINY.replace("[train]", "[train]\nclass_weight = { 3 = 4.0 }")
    Path("tiny.toml").write_text(weighed.replace("[20, 40]", "[40]"))
    check("tiny", 40, search)


@pytest.mark.usefixtures("one_thread", "assets_vowels")
@pytest.mark.slow
def test_snippet_gives_the_test_score_of_series(search):
    """Padded series with their lengths, in an LSTM."""
    Path("series.toml").write_text(SERIES)
    check("series", 45, search)
