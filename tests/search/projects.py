"""Studies of a user's own code: data of six numbers, and a module that learns from them the sum of three signs."""

from search.spec.study_spec import StudySpec
from search.task.task import Task
from strategies import FreezingStrategy

PROJECT = """
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset


def examples(seed, count, tags=False):
    x = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    signs = (x[:, :3] > 0).float()
    return TensorDataset(x, signs if tags else signs.sum(1).long())


class Data(LightningDataModule):
    def __init__(self, tags=False):
        super().__init__()
        self.tags = tags

    def train_dataloader(self):
        return DataLoader(examples(0, 300, self.tags), 32, shuffle=True)

    def test_dataloader(self):
        return DataLoader(examples(1, 90, self.tags), 32)


class Net(LightningModule):
    outputs = 4

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh())
        self.head = nn.Linear(16, self.outputs)

    def forward(self, x):
        return self.head(self.backbone(x))

    def loss(self, batch):
        return cross_entropy(self(batch[0]), batch[1])

    def training_step(self, batch, index):
        return self.loss(batch)

    def validation_step(self, batch, index):
        self.log("val_loss", self.loss(batch))
"""


def study_of(data, backbone, **tables):
    """Return a study of these data and this network without weights, on the CPU; the tables add keys to it."""
    content = {
        "task": {"data": data, "sizes": [100]},
        "model": {"backbone": backbone, "weights": "none"},
        "train": {"accelerator": "cpu"},
    }
    for name, keys in tables.items():
        content[name] = {**content.get(name, {}), **keys}
    return StudySpec.from_dict(content, where="test")


def pretrained(spec):
    """Load a task whose random weights count as pretrained ones."""
    task = Task.load(spec)
    weights = task.build(FreezingStrategy(freeze_depth=0), repeat=0)[0].state_dict()
    return task.with_weights(weights) if task.parts.module is None else task
