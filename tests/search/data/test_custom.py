import sys

import pytest
import torch

from search.data.duplicates import shared
from search.data.images import Images
from search.data.load import load_data
from search.data.texts import Texts
from search.errors import TaskError

CODE = '''
import random
import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, SubsetRandomSampler, TensorDataset
from torch.utils.data import random_split
from search.data.examples import Examples, TaskData

def numbers(start, stop):
    return TensorDataset(torch.arange(start, stop).double()[:, None], torch.arange(start, stop) % 3)

class Module(LightningDataModule):
    def __init__(self, size=30, batch_size=4):
        super().__init__()
        self.size, self.batch_size = size, batch_size
    def prepare_data(self):
        self.prepared = True
    def setup(self, stage):
        assert self.prepared
        if stage == "fit":
            self.train, self.val = random_split(numbers(0, self.size), [0.8, 0.2])
        else:
            self.test = numbers(100, 110)
    def train_dataloader(self):
        return DataLoader(self.train, batch_size=self.batch_size, shuffle=True, drop_last=True)
    def val_dataloader(self):
        return DataLoader(self.val, batch_size=self.batch_size)
    def test_dataloader(self):
        return DataLoader(self.test, batch_size=self.batch_size)

instance = Module(size=9)

def plain():
    return LightningDataModule.from_datasets(numbers(0, 50), batch_size=7)

class Words(Dataset):
    def __len__(self):
        return 6
    def __getitem__(self, index):
        return {"premise": f"p{index}", "hypothesis": f"h{index}", "label": index % 2}

def words():
    return Words(), Subset(Words(), [4, 5])

class Lists(Dataset):
    """Items of unequal lengths, for a collate_fn that pads."""
    def __init__(self, count):
        self.count = count
    def __len__(self):
        return self.count
    def __getitem__(self, index):
        return [1.0] * (index + 1), index / 2

def pad(items):
    lengths = torch.tensor([len(values) for values, _ in items])
    values = torch.zeros(len(items), int(lengths.max()), 1)
    for row, (item, _) in zip(values, items):
        row[: len(item), 0] = torch.tensor(item)
    return {"values": values, "lengths": lengths}, torch.tensor([target for _, target in items])

class Padded(LightningDataModule):
    def train_dataloader(self):
        return DataLoader(Lists(8), batch_size=2, collate_fn=pad)
    def test_dataloader(self):
        return DataLoader(Lists(3), batch_size=2, collate_fn=pad)

class Faces(Dataset):
    classes = ["a", "b"]
    def __init__(self, label=int):
        self.label = label
    def __len__(self):
        return 10
    def __getitem__(self, index):
        return Image.fromarray(np.full((9, 9, 3), index, dtype=np.uint8)), self.label(index % 2)

def faces():
    return Faces(), Subset(Faces(), [8, 9])

def ages():
    return Faces(float), Subset(Faces(float), [8, 9])

class Sampled(LightningDataModule):
    """One data set, cut by samplers."""
    data = numbers(0, 30)
    def loader(self, start, stop):
        return DataLoader(self.data, sampler=SubsetRandomSampler(range(start, stop)))
    def train_dataloader(self):
        return self.loader(0, 15)
    def val_dataloader(self):
        return self.loader(15, 20)
    def test_dataloader(self):
        return self.loader(20, 30)

class TestTwice(Module):
    """It validates on its test data."""
    def val_dataloader(self):
        self.setup("test")
        return self.test_dataloader()

class TrainTwice(Module):
    """It validates on its training data, and has no test data."""
    def val_dataloader(self):
        return DataLoader(self.train)
    def test_dataloader(self):
        return None

class Noise(Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):
        return torch.rand(2) + random.random() + np.random.rand(), index % 2

def noise():
    return Noise(), Noise()

class Stream(IterableDataset):
    def __iter__(self):
        return iter([])

    def __len__(self):
        return 3

class Streaming(LightningDataModule):
    def train_dataloader(self):
        return DataLoader(Stream())

class Broken(LightningDataModule):
    def setup(self, stage):
        raise OSError("the disk\\nis gone")

def triples():
    part = TensorDataset(torch.zeros(4, 1), torch.zeros(4), torch.zeros(4))
    return part, part

def out_of_range():
    part = Examples(torch.zeros(2, 1), torch.tensor([0, 5]))
    return TaskData(pool=part, test=part, classes=("a", "b"))

def huge_labels():
    part = TensorDataset(torch.zeros(4, 1), torch.arange(4) + 10**12)
    return part, part

def not_finite():
    part = TensorDataset(torch.tensor([[1.0, 2.0], [3.0, float("nan")]]), torch.arange(2))
    return part, part

class Named(Faces):
    def __getitem__(self, index):
        return torch.zeros(1), "ab"[index % 2]

def named():
    return Named(), Named()

def floats():
    return TensorDataset(torch.rand(6, 1), torch.arange(6) % 2.0), TensorDataset(torch.rand(2, 1), torch.arange(2.0))

def one_set():
    return numbers(0, 9), numbers(0, 9)

def with_part(part):
    data = Examples(torch.arange(8.0)[:, None], torch.arange(8) % 2)
    return TaskData(pool=data.subset(torch.arange(part)), test=data, classes=("a", "b"))
'''


@pytest.fixture
def load(tmp_path, monkeypatch):
    (tmp_path / "my_own.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_own", raising=False)
    return lambda name, **options: load_data(f"my_own:{name}", options, where="[task] data")


def test_a_modules_validation_data_never_train(load):
    """Its train set is the pool, its others evaluate."""
    data = load("Module")
    assert data.classes == ("0", "1", "2")
    pool, validation = (sorted(part.inputs[:, 0].tolist()) for part in (data.pool, data.validation))
    assert (len(pool), len(validation)) == (24, 6)
    assert sorted([*pool, *validation]) == list(range(30)), "each example once, none dropped"
    assert "the 6 examples of its val_dataloader validate, and never train" in data.notes[0]
    assert data.test.inputs[:, 0].tolist() == list(range(100, 110))
    assert data.pool.inputs.dtype == torch.float32
    assert torch.equal(data.pool.inputs[:, 0].long() % 3, data.pool.targets)


def test_its_order_is_fixed_and_the_random_stream_untouched(load):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = load("Module").pool.inputs
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(load("Module").pool.inputs, first)
    assert torch.equal(load("noise").pool.inputs, load("noise").pool.inputs), "random transforms, drawn once"


def test_options_are_its_arguments(load):
    assert len(load("Module", size=12).pool) == 10
    assert len(load("instance").pool) == 8
    assert len(load("Module", part=[0, 0.5]).pool) == 12
    assert load("Module", classes={"x": [0], "y": [1, 2]}).classes == ("x", "y")
    assert len(load("with_part", part=6).pool) == 6, "an argument of its own comes first"
    with pytest.raises(
        TaskError, match=r"'my_own:Module': option sise = 3 is not known; allowed: test, part, classes, size, batch"
    ):
        load("Module", sise=3)
    with pytest.raises(TaskError, match="option size = 3 is not known; allowed: test, part, classes"):
        load("instance", size=3)


def test_what_samplers_choose_is_what_counts(load):
    data = load("Sampled")
    assert data.pool.inputs[:, 0].tolist() == list(range(15))
    assert data.validation.inputs[:, 0].tolist() == list(range(15, 20))
    assert data.test.inputs[:, 0].tolist() == list(range(20, 30))


def test_validation_data_that_test_stay_out_of_the_pool(load):
    data = load("TestTwice")
    assert len(data.pool) == 24
    assert "its validation data are its test data; they count once" in data.notes[0]
    assert not len(shared(data.test, data.pool))


def test_validation_data_that_are_the_training_data_count_once(load):
    data = load("TrainTwice")
    assert len(data.pool) + len(data.test) == 24
    assert not len(shared(data.test, data.pool))


def test_decimal_targets_get_a_note(load):
    assert "the targets are decimal numbers, to be predicted" in load("floats").notes[0]
    assert not load("Padded").notes


def test_without_a_test_loader_its_data_are_cross_validated(load):
    """Fifty examples are few; a share may be asked for."""
    data = load("plain")
    assert (len(data.pool), len(data.test), data.cross_validated) == (50, 0, True)
    assert "50 labels and no test set: judged by cross-validation" in data.notes[-1]
    assert 8 <= len(load_data("my_own:plain", where="[task] data", test=0.2).test) <= 12


def test_a_collate_fn_pads_all_examples_together(load):
    data = load("Padded")
    assert (data.kind, data.outputs) == ("regression", 1)
    assert data.pool.inputs["values"].shape == (8, 8, 1)
    assert data.pool.inputs["lengths"].tolist() == list(range(1, 9))
    assert data.test.targets.tolist() == [0, 0.5, 1]


def test_texts_and_images_stay_raw(load):
    words = load("words").pool.inputs
    assert isinstance(words, Texts)
    assert words.rows[3] == ("p3", "h3")
    faces = load("faces")
    assert isinstance(faces.pool.inputs, Images)
    assert faces.classes == ("a", "b")
    assert faces.pool.inputs[4].getpixel((0, 0)) == (4, 4, 4)
    ages = load("ages")
    assert (ages.kind, ages.pool.targets.tolist()) == ("regression", [0, 1] * 5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("numbers", "fails: TypeError"),
        ("Broken", r"setup\('fit'\) fails: OSError: the disk is gone"),
        ("Streaming", "Stream can't be indexed; map-style data are needed"),
        ("triples", "a batch of the first data set must be a pair .inputs, targets., got a list"),
        ("out_of_range", "The pool set has targets from 0 to 5; allowed: 0 to 1"),
        ("huge_labels", "The targets go up to 1000000000003 in 8 examples"),
        ("not_finite", r"The pool set has 1 inputs that are NaN or infinite, the first at \[1, 1\]"),
        ("named", "the targets of the first data set are words, the first 'a'; number the classes"),
        ("one_set", "its test set is its pool"),
        ("CODE", "can't be imported: AttributeError"),
        ("random.seed", "returned a NoneType; it must return a TaskData, a LightningDataModule, or two"),
    ],
)
def test_code_without_data_is_refused_in_one_line(load, name, message):
    with pytest.raises(TaskError, match=rf"^\[task\] data = 'my_own:{name}'.*{message}") as caught:
        load(name)
    assert "\n" not in str(caught.value)


def test_a_file_with_a_colon_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_own:thing").touch()
    with pytest.raises(TaskError, match="no such data"):
        load_data("my_own:thing", where="[task] data")
