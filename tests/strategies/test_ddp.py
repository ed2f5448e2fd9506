"""Two processes on the CPU: what unfreezes midway is averaged over them, or the run is refused before it trains."""

import json
import subprocess
import sys
from itertools import pairwise

import pytest

SCRIPT = """
import hashlib, json, os, sys
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset
from strategies import FreezingCallback, FreezingStrategy, param_groups

torch.set_num_threads(1)
folder, kind, fields = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
strategy = FreezingStrategy(**fields)


class Module(LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        stage = lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Tanh())
        self.backbone, self.head = nn.Sequential(stage(), stage(), stage()), nn.Linear(4, 2)

    def training_step(self, batch, index):
        return nn.functional.cross_entropy(self.head(self.backbone(batch[0])), batch[1])

    def configure_optimizers(self):
        return SGD(param_groups(self.backbone, self.head, strategy), momentum=0.9)


class Hashes(Callback):
    def on_train_start(self, trainer, pl_module):
        self.lines = [self.hashes(pl_module)]

    def on_train_epoch_end(self, trainer, pl_module):
        self.lines.append(self.hashes(pl_module))

    def on_train_end(self, trainer, pl_module):
        with open(f"{folder}/{trainer.global_rank}.json", "w") as file:
            json.dump(self.lines, file)

    def hashes(self, module):
        return [
            hashlib.blake2b(b"".join(p.detach().numpy().tobytes() for p in part.parameters())).hexdigest()
            for part in (*module.backbone, module.head)
        ]


data = TensorDataset(torch.randn(16, 4, generator=torch.Generator().manual_seed(1)), torch.arange(16) % 2)
Trainer(
    max_epochs=4, accelerator="cpu", devices=2, strategy=kind, logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False, callbacks=[FreezingCallback(strategy), Hashes()],
).fit(Module(), DataLoader(data, batch_size=4))
"""


def run(folder, kind, **fields):
    (folder / "run.py").write_text(SCRIPT)
    command = [sys.executable, "run.py", str(folder), kind, json.dumps(fields)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "fields", "unfreezes"),
    [
        ("ddp_find_unused_parameters_true", {"unfreeze_epoch": 1, "epochs_per_group": 1, "l2_sp": 0.1}, [3, 2, 1]),
        pytest.param(
            "ddp",
            {"freeze_depth": 1, "lr_growth": 2, "scheduler": "cosine"},
            [None, 0, 0],
            marks=pytest.mark.soak,
        ),
    ],
    ids=["unfreezes midway", "one set of parameters"],
)
def test_processes_stay_identical_and_follow_the_schedule(tmp_path, kind, fields, unfreezes):
    # Under Lightning's BackboneFinetuning they drift apart without an error (#20340).
    done = run(tmp_path, kind, **{"freeze_depth": 0, **fields})
    assert done.returncode == 0, done.stderr[-2000:]
    ours, theirs = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert ours == theirs
    for part, unfreeze in enumerate([*unfreezes, 0]):
        changed = [before[part] != after[part] for before, after in pairwise(ours)]
        assert changed == [unfreeze is not None and unfreeze <= epoch for epoch in range(4)]


@pytest.mark.slow
def test_a_wrap_that_misses_an_unfreezing_is_refused(tmp_path):
    done = run(tmp_path, "ddp", freeze_depth=0, unfreeze_epoch=2)
    assert done.returncode != 0
    assert 'Trainer(strategy="ddp_find_unused_parameters_true")' in done.stderr
    assert not list(tmp_path.glob("*.json")), "nothing was trained"
