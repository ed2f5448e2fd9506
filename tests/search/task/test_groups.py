"""Patients stay on one side, from the study file to the verdict."""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from search.errors import TaskError
from search.spec.study_spec import StudySpec
from search.storage.location import StudyLocation
from search.task.task import Task
from search.training.fit import fit
from search.verdict.load import load_results
from search.verdict.predictions import save_predictions, with_example_scores
from search.verdict.results import Results
from search.verdict.runs import ExampleScores
from search.verdict.variances import example_covariance
from strategies import FreezingStrategy
from tests.search.verdict.rows import row

FILE = """
[task]
data = "scans"
group_by = '^(p\\d+)_'
sizes = [20, "all"]
{task}
[model]
backbone = "lenet"
weights = "none"
[train]
epochs = 2
steps_per_epoch = 2
accelerator = "cpu"
[search]
trials = 3
[confirm]
repeats = 3
"""

CLINICAL = """
[task]
data = "clinic:Clinic"
{group_by}
sizes = [100, "all"]
[model]
backbone = "clinic:net"
weights = "none"
"""

CLINIC = '''
import torch
from lightning.pytorch import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def scans(first, last):
    """Column 0 is the patient's number, scaled."""
    generator = torch.Generator().manual_seed(5)
    signature, label = torch.randn(60, 16, generator=generator), torch.randint(0, 2, (60,), generator=generator)
    patient = torch.arange(first, last).repeat_interleave(8)
    x = signature[patient] + 0.01 * torch.randn(len(patient), 16, generator=generator)
    x[:, 0] = patient / 1000
    return TensorDataset(x, label[patient])


class Clinic(LightningDataModule):
    """Patients 0-29 train, 30-39 validate, 40-59 test."""

    def train_dataloader(self):
        return DataLoader(scans(0, 30), 32, shuffle=True)

    def val_dataloader(self):
        return DataLoader(scans(30, 40), 32)

    def test_dataloader(self):
        return DataLoader(scans(40, 60), 32)


def patient(item):
    return round(item[0][0].item() * 1000)


def site(item):
    return patient(item) // 7


def net():
    return nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
'''


@pytest.fixture
def ward(tmp_path, monkeypatch):
    """Write scans of 24 patients, 3 to 7 each, one that can't be read; the mean pixel tells the patient."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for patient in range(24):
        for scan in range(3 + patient % 5):
            folder = tmp_path / "scans" / ("ill" if (patient + scan // 5) % 2 else "well")
            folder.mkdir(parents=True, exist_ok=True)
            pixels = (10 * patient + rng.integers(0, 2, (28, 28))).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"p{patient}_{scan}.png")
    (tmp_path / "scans" / "ill" / "p1_0.png").write_bytes(b"no image")
    return tmp_path


@pytest.fixture
def clinic(tmp_path, monkeypatch):
    """Write a module that keeps patients apart, eight nearly equal scans each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "clinic", raising=False)
    (tmp_path / "clinic.py").write_text(CLINIC)
    return tmp_path


def load(folder, text=FILE, *, task=""):
    (folder / "ward.toml").write_text(text.replace("{task}", task))
    return Task.load(StudySpec.from_file(folder / "ward.toml"))


def patients(task, part):
    """Return whose the examples of a part of a split are, by their pixels."""
    return (task.take(part).inputs.pixels_of(torch.arange(len(part))).float().mean((1, 2, 3)) / 10).int().tolist()


@pytest.mark.parametrize("test", ["test = 0.3", 'test = "cv"\nshuffle_labels = true'])
def test_no_patient_is_on_two_sides_of_a_trial(ward, test):
    """As its network sees the images, skipped ones apart, with labels shuffled or not."""
    task = load(ward, task=test)
    assert any("1 of 118 images can't be read: scans/ill/p1_0.png" in note for note in task.data.notes)
    for repeat in range(6):
        for size in task.sizes:
            split = task.split(repeat=repeat, size=size)
            sides = [{*patients(task, part)} for part in (split.train, split.validate, split.test)]
            assert len(split.train) == size
            assert sum(map(len, sides)) == len(set().union(*sides))
            assert len(sides[2]) >= 2


@pytest.mark.parametrize(("metric", "test"), [("accuracy", "cv"), ("f1", 0.3)])
def test_judge_resamples_whole_patients(ward, one_thread, test, metric):
    """Test examples' groups get from the task through the predictions' files to the judge."""
    task = load(ward, task=f"test = {test!r}\nmetric = {metric!r}")
    location = StudyLocation.of("ward", out=ward, storage=None)
    rows = []
    for repeat in (1, 2):
        done = fit(task, FreezingStrategy(freeze_depth=0), size=20, repeat=repeat, test=True)
        name = save_predictions(location, repeat, **done.predictions)
        rows.append(row(repeat, FreezingStrategy(freeze_depth=0), repeat=repeat, predictions_file=name))
    found = with_example_scores(Results(location=location, spec=task.spec, num_groups=2, rows=tuple(rows))).rows
    for one in found:
        split = task.split(repeat=one.repeat, size=20)
        groups, seen = one.test_groups.tolist(), patients(task, split.test)
        assert len({*groups}) == len({*seen}) == len({*zip(groups, seen, strict=True)}) > 1
        if metric != "accuracy":  # blocks of whole groups share a pseudo-value
            assert len({*zip(groups, one.example_scores.tolist(), strict=True)}) == len({*groups})
    covariance = ExampleScores.of([found[:1]]).covariance()
    scores, groups = found[0].example_scores[:, None].astype(float), found[0].test_groups
    assert covariance == pytest.approx(example_covariance(scores, groups))


def test_one_tested_patient_says_nothing_of_patients():
    """With one group no variance between groups can be seen: the careful rule for missing scores takes its place."""
    scored = {"example_scores": np.array([1.0, 0.0, 1.0]), "test_groups": np.zeros(3, dtype=np.int64)}
    one = row(1, FreezingStrategy(freeze_depth=0), test_se=0.2, **scored)
    assert ExampleScores.of([[one]]) is None
    assert ExampleScores.of([[replace(one, test_groups=np.array([0, 0, 1]))]]).covariance() > 0


def test_slice_of_the_same_data_shares_no_patient(ward):
    """The source task's slice is cut between the same groups."""
    (ward / "scans" / "ill" / "p1_0.png").unlink()
    text = FILE.replace('weights = "none"', 'weights = "source"').replace("{task}", "options = { part = [0.5, 1.0] }")
    text += '[source]\ndata = "scans"\noptions = { part = [0.0, 0.5] }\nepochs = 1\n'
    task = load(ward, text)
    images = task.source.pool.inputs
    learned = {images.source.paths[row].name.split("_")[0] for row in images.rows.tolist()}
    judged = {f"p{patient}" for patient in patients(task, np.arange(len(task.data.pool)))}
    assert not learned & judged
    assert len(learned) + len(judged) == 24


@pytest.mark.parametrize("group_by", ["", 'group_by = "clinic:patient"'])
def test_datamodule_keeps_its_patients_apart(clinic, group_by):
    """Its own validation data validate, and never train; a note says so."""
    task = load(clinic, CLINICAL.replace("{group_by}", group_by))
    assert task.sizes == [100, 240]
    assert any("the 80 examples of its val_dataloader validate, and never train" in note for note in task.data.notes)
    for repeat in range(4):
        for size in task.sizes:
            split = task.split(repeat=repeat, size=size)
            parts = (task.take(part).inputs[:, 0] * 1000 for part in (split.train, split.validate, split.test))
            trained, validated, tested = ({*part.round().int().tolist()} for part in parts)
            assert trained <= {*range(30)}
            assert validated <= {*range(30, 40)}
            assert tested == {*range(40, 60)}
            if group_by and size == 100:
                assert len(trained) == 13, "whole patients of eight scans, the last cut"


def test_datamodule_that_shares_sites_is_refused(clinic):
    """Sites 4 and 5 have patients that train, validate and test."""
    with pytest.raises(TaskError, match=r"'clinic:site': 1 group is in the pool and in the validation set: 4; allowed"):
        load(clinic, CLINICAL.replace("{group_by}", 'group_by = "clinic:site"'))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("'^(p\\d+)_'", "'^(p)'", r"\[task\] group_by = '\^\(p\)': 1 group to cross-validate; allowed: at least 4"),
        ("'^(p\\d+)_'", "3", r"\[task\] group_by = 3: must be a column, an array, a pattern over file names, or"),
        ("'^(p\\d+)_'", '""', r"\[task\] group_by = '': must be a column"),
        ("'^(p\\d+)_'", "'^(q)'", r"\[task\] data = 'scans': group_by = '\^\(q\)': 118 of 118 file names have no"),
    ],
)
def test_bad_group_by_ends_with_code_2(ward, search, old, new, message):
    """One line, and nothing is written."""
    (ward / "ward.toml").write_text(FILE.replace("{task}", "").replace(old, new))
    before = {*ward.rglob("*")}
    done = search("groups", "ward.toml", cwd=ward)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert re.search(message, done.stderr)
    assert {*ward.rglob("*")} == before


@pytest.mark.slow
def test_study_of_patients_runs_to_its_page(ward, search):
    """Few scans, judged by cross-validation over whole patients."""
    (ward / "ward.toml").write_text(FILE.replace("{task}", ""))
    done = search("run", "ward.toml", "--workers", "1", cwd=ward)
    assert done.returncode == 0, done.stderr
    assert "118 examples of 24 groups, each kept whole in every split" in done.stdout + done.stderr
    assert (ward / "studies" / "ward" / "report.html").is_file()
    results = with_example_scores(load_results(StudyLocation.of("ward", out=ward / "studies", storage=None)))
    tested = [one for one in results.rows if one.test_groups is not None]
    assert len(tested) > 10
    for one in tested:
        assert 2 <= len({*one.test_groups.tolist()}) < len(one.test_groups)
