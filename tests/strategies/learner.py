"""A user's own module to train under a strategy, with norm and dropout, and callbacks that watch its run."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

from strategies import layer_groups, param_groups

EPOCHS = 6


def stage():
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.3))


class Module(LightningModule):
    """Somebody's own module: it knows nothing of Frostline but `param_groups`."""

    def __init__(self, strategy):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(stage(), stage(), stage())
        self.head = nn.Linear(4, 2)
        self.strategy = strategy

    def training_step(self, batch, index):
        inputs, targets = batch
        loss = nn.functional.cross_entropy(self.head(self.backbone(inputs)), targets)
        self.losses = [*getattr(self, "losses", []), loss.item()]
        return loss

    def validation_step(self, batch, index):
        self.log("val_loss", nn.functional.cross_entropy(self.head(self.backbone(batch[0])), batch[1]))

    def configure_optimizers(self):
        return AdamW(param_groups(self.backbone, self.head, self.strategy), weight_decay=0.1)


def loader():
    generator = torch.Generator().manual_seed(1)
    data = TensorDataset(torch.randn(8, 4, generator=generator), torch.arange(8) % 2)
    return DataLoader(data, batch_size=4)


def trainer(*callbacks, epochs=EPOCHS, **options):
    lean = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(max_epochs=epochs, callbacks=list(callbacks), **(lean | options))


class Watch(Callback):
    """Compares the parameters that changed in each epoch with the schedule."""

    def __init__(self, schedule):
        self.schedule = schedule
        self.seen = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.before = {name: tensor.clone() for name, tensor in pl_module.backbone.state_dict().items()}

    def on_train_epoch_end(self, trainer, pl_module):
        expected = self.schedule.trainable(trainer.current_epoch)
        after = pl_module.backbone.state_dict()
        for group, trains in enumerate(expected):
            names = [name for name in after if name.startswith(f"{group}.")]
            changed = [not torch.equal(self.before[name], after[name]) for name in names]
            assert all(changed) if trains else not any(changed), (trainer.current_epoch, group, names)
        requires = [all(p.requires_grad for p in g.parameters) for g in layer_groups(pl_module.backbone)]
        assert requires == list(expected)
        self.seen.append(expected)


SCHEDULERS = {
    "LambdaLR": lambda optimizer: LambdaLR(optimizer, lambda step: 0.9**step),
    "OneCycleLR": lambda optimizer: OneCycleLR(optimizer, [g["lr"] for g in optimizer.param_groups], total_steps=13),
}


class Scheduled(Module):
    def __init__(self, strategy, name):
        super().__init__(strategy)
        self.name = name

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        return [optimizer], [{"scheduler": SCHEDULERS[self.name](optimizer), "interval": "step"}]


class Rates(Callback):
    """The learning rates with which each step is taken."""

    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen.append([group["lr"] for group in optimizer.param_groups])
