"""The list of what a study does not take from a user's own code, with the way to have each."""

import pytest

from search.task.task import Task
from tests.search.projects import PROJECT, study_of

DROPPING = """
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.optim import SGD, Adam, AdamW, RMSprop
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR
from torch.utils.data import Dataset, WeightedRandomSampler


class Jittered(Dataset):
    def __init__(self, examples):
        self.examples = examples

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        x, y = self.examples[index]
        return x + 0.1 * torch.randn(6), y


def noisy(items):
    x, y = torch.utils.data.default_collate(items)
    return x + torch.randn_like(x), y


class Rich(Data):
    def train_dataloader(self):
        rare = WeightedRandomSampler([1.0] * 300, 300)
        return DataLoader(Jittered(examples(0, 300)), 16, sampler=rare, drop_last=True, collate_fn=noisy)

    def val_dataloader(self):
        return DataLoader(examples(2, 60), 32)

    def on_after_batch_transfer(self, batch, index):
        return batch[0] * 2, batch[1]


class Usual(Net):
    def configure_optimizers(self):
        return AdamW(self.parameters(), lr=2e-3, weight_decay=0.01)


class Full(Usual):
    def train_dataloader(self):
        raise NotImplementedError

    def configure_callbacks(self):
        return [ModelCheckpoint(), EarlyStopping("val_loss")]

    def configure_optimizers(self):
        self.backbone[0].requires_grad_(False)
        optimizer = Adam(self.parameters(), betas=(0.8, 0.99))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": CosineAnnealingLR(optimizer, 9)}}


class Momentum(Usual):
    def configure_optimizers(self):
        return [SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=0.05)], []


class Odd(Usual):
    def configure_optimizers(self):
        optimizer = RMSprop(self.parameters())
        return [optimizer], [OneCycleLR(optimizer, 0.1, 50)]


class Broken(Usual):
    def configure_optimizers(self):
        return self.trainer.model.optimizer


class Frozen(Usual):
    def __init__(self):
        super().__init__()
        self.backbone[0].bias.requires_grad_(False)


class Lossy(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16))
        self.criterion = nn.CrossEntropyLoss(label_smoothing=0.1)

    def forward(self, x):
        return self[2](self[1](self[0](x)))


def plain():
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16))
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "dropping.py").write_text(PROJECT + DROPPING)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def lines(project):
    def notes(data="Data", network="Usual", train=None, space=None):
        tables = {"train": train or {}, "space": {"pretrained": True, **(space or {})}}
        return [*Task.load(study_of(f"dropping:{data}", f"dropping:{network}", **tables)).data.notes]

    return notes


@pytest.mark.parametrize("network", ["Usual", "plain"])
def test_dropped_is_empty_where_all_is_taken(lines, network):
    """A learning rate is searched, so it is not lost."""
    assert lines(network=network) == []


def test_dropped_names_all_of_a_loader(lines):
    """Each line says how to have it."""
    found = lines("Rich", train={"steps_per_epoch": "pass"})
    named = {
        "batch_size = 16 is not taken": "[train] batch_size = 16",
        "drop_last is not taken": "[train] steps_per_epoch = a number",
        "WeightedRandomSampler is not taken": "your module's loss",
        "collate_fn default_collate of val_dataloader is not taken": "training_step of your LightningModule",
        "data set draws at random": "training_step of your LightningModule",
        "collate_fn draws at random": "training_step of your LightningModule",
        "on_after_batch_transfer is not called": "on_after_batch_transfer of a LightningModule",
    }
    for thing, way in named.items():
        assert [way in line for line in found if thing in line] == [True], thing
    assert all(line.startswith("[task] data = 'dropping:Rich': ") for line in found)
    assert any('[train] class_weight = "balanced"' in line for line in lines("Rich", "plain"))


def test_dropped_names_all_of_a_module(lines):
    """Also parameters that only its optimizer's hook would freeze."""
    found = lines(network="Full")
    named = {
        "its train_dataloader is not called": "[task] data",
        "its ModelCheckpoint is not taken": "search.best_strategy",
        "2 parameters (backbone.0.weight, backbone.0.bias) train": "requires_grad = False in its __init__",
        "Adam(weight_decay=0.0, betas=(0.8, 0.99)) is not taken": '"adamw", weight_decay = 0 (no key takes betas)',
        "CosineAnnealingLR is not taken": '[space] scheduler = "cosine"',
    }
    for thing, way in named.items():
        assert [way in line for line in found if thing in line] == [True], thing
    assert len(found) == len(named)
    assert all(line.startswith("[model] backbone = 'dropping:Full': ") for line in found)


def test_dropped_leaves_out_what_the_study_file_has(lines):
    """The lines' own advice ends them."""
    sgd = {"optimizer": "sgd", "weight_decay": 0.05}
    assert '[train] optimizer = "sgd", weight_decay = 0.05' in lines(network="Momentum")[0]
    assert lines(network="Momentum", train=sgd) == []
    assert not any("Cosine" in line for line in lines(network="Full", space={"scheduler": ["constant", "cosine"]}))


@pytest.mark.parametrize(
    ("network", "things"),
    [
        ("Odd", ["RMSprop(", "OneCycleLR is not taken; nearest to it"]),
        ("Broken", ["configure_optimizers is not taken (tried, it fails: RuntimeError"]),
        ("Lossy", ["its loss (criterion) is not taken: cross entropy"]),
        ("Frozen", ["1 parameter (backbone.0.bias) with requires_grad = False stay frozen at every freeze depth"]),
    ],
)
def test_dropped_names_what_has_no_key(lines, network, things):
    """Nothing that a hook raises stops the study."""
    for line, thing in zip(lines(network=network), things, strict=True):
        assert thing in line


def test_dropped_says_where_frozen_parameters_train(lines):
    """`parameters` = "all" overrules the user's own freezing."""
    (line,) = lines(network="Frozen", space={"parameters": ["trainable", "all"]})
    assert 'requires_grad = False of 1 parameter (backbone.0.bias) is not taken where parameters = "all"' in line


def test_run_prints_the_list_once(project, search):
    """Before anything is trained."""
    (project / "s.toml").write_text(
        '[task]\ndata = "dropping:Rich"\nsizes = [100]\n[model]\nbackbone = "dropping:Full"\nweights = "none"\n'
        "[train]\nepochs = 1\nsteps_per_epoch = 1\n[space]\npretrained = true\n"
        "[search]\ntrials = 2\n[confirm]\nrepeats = 0\n"
    )
    done = search("run", "s.toml", "--dry-run")
    assert done.returncode == 0, done.stderr
    for thing in ("loader's batch_size", "CosineAnnealingLR", "WeightedRandomSampler"):
        assert done.stdout.count(thing) == 1
