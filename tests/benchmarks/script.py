"""A, the plain script: Optuna and Lightning as their documentation shows them, with a freezing schedule that is right.

All parameters are in the optimizer from the start; at every epoch start what is frozen is set to `eval()` and
`requires_grad = False`. Of Frostline it has what makes the two comparable: the split, the weights that backbone and
head start from, and the order of the batches. It is spared decoding: its images are float tensors in memory.
"""

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import optuna
import torch
import torchvision
from optuna_integration import PyTorchLightningPruningCallback
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from search.data.batches import EndlessSampler

PartialBackbone = list[list[nn.Module]]


def resnet18() -> tuple[nn.Module, PartialBackbone]:
    network = torchvision.models.resnet18()
    network.fc = nn.Identity()
    return network, [[network.conv1, network.bn1], *([getattr(network, f"layer{i}")] for i in range(1, 5))]


def mobilenet_v2() -> tuple[nn.Module, PartialBackbone]:
    network = torchvision.models.mobilenet_v2()
    network.classifier[1] = nn.Identity()
    *stages, last = network.features
    return network, [*([stage] for stage in stages), [last, network.classifier]]  # its dropout goes with the last


def lenet() -> tuple[nn.Module, PartialBackbone]:
    network = nn.Sequential(
        OrderedDict(
            conv1=nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            conv2=nn.Sequential(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
            linear1=nn.Sequential(nn.Flatten(), nn.Linear(400, 120), nn.ReLU()),
            linear2=nn.Sequential(nn.Linear(120, 84), nn.ReLU()),
        )
    )
    return network, [[stage] for stage in network]


NETWORKS = {"resnet18": resnet18, "mobilenet_v2": mobilenet_v2, "lenet": lenet}


class Order(EndlessSampler):
    """Frostline's order of the training examples, an epoch at a time."""

    def __iter__(self) -> Iterator[int]:
        return (index for index, _ in super().__iter__())


class FineTuner(lightning.LightningModule):
    def __init__(self, setup: dict[str, Any], params: dict[str, Any]) -> None:
        super().__init__()
        self.setup_, self.params = setup, params
        self.backbone, self.stages = NETWORKS[setup["network"]]()
        self.backbone.load_state_dict(setup["backbone"])
        self.head = nn.Linear(*reversed(setup["head"]["weight"].shape))
        self.head.load_state_dict(setup["head"])

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))

    def on_train_epoch_start(self) -> None:
        unfrozen = self.current_epoch >= self.params.get("unfreeze_epoch", 0)
        for index, stage in enumerate(self.stages):
            trains = unfrozen and index >= self.params["freeze_depth"]
            for module in stage:
                module.requires_grad_(trains)
                module.train(trains)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        images, labels = batch
        return cross_entropy(self(images), labels)

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        images, labels = batch
        logits = self(images)
        self.log("val_loss", cross_entropy(logits, labels), batch_size=len(labels))
        self.log("val_accuracy", (logits.argmax(1) == labels).float().mean(), batch_size=len(labels))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        lr = self.params["head_lr"]
        groups = []
        for stage in self.stages:
            parameters = [parameter for module in stage for parameter in module.parameters()]
            groups.append((lr * self.params.get("backbone_lr_ratio", 0.0), parameters))
        groups.append((lr, list(self.head.parameters())))
        decayed = [{"params": [p for p in own if p.ndim > 1], "lr": rate} for rate, own in groups]
        plain = [{"params": [p for p in own if p.ndim == 1], "lr": rate, "weight_decay": 0.0} for rate, own in groups]
        both = [group for group in [*decayed, *plain] if group["params"]]
        return torch.optim.AdamW(both, weight_decay=0.01, fused=True)


class Script:
    """The script at work on one study; `setup` is the file that `product.write_setup` made."""

    def __init__(self, setup: Path, folder: Path) -> None:
        self.setup = torch.load(setup, weights_only=True)
        torch.set_num_threads(self.setup["threads"])
        self.train, self.validation, self.test = (
            TensorDataset(*self.setup[part]) for part in ("train", "validation", "test")
        )
        pruner = optuna.pruners.MedianPruner() if self.setup["pruner"] == "median" else optuna.pruners.NopPruner()
        self.study = optuna.create_study(
            storage=f"sqlite:///{folder}/script.db",
            direction="minimize",
            sampler=optuna.samplers.TPESampler(seed=0),
            pruner=pruner,
        )
        self.model: FineTuner | None = None

    def objective(self, trial: optuna.Trial) -> float:
        epochs, groups = self.setup["epochs"], self.setup["groups"]
        params = {
            "freeze_depth": trial.suggest_int("freeze_depth", 0, groups),
            "head_lr": trial.suggest_float("head_lr", 3e-4, 3e-2, log=True),
        }
        if params["freeze_depth"] < groups:
            params["unfreeze_epoch"] = trial.suggest_int("unfreeze_epoch", 0, epochs - 1)
            params["backbone_lr_ratio"] = trial.suggest_float("backbone_lr_ratio", 0.03, 1.0, log=True)
        batch = self.setup["batch_size"]
        order = Order(len(self.train), length=self.setup["steps"] * batch, seed=self.setup["seed"])
        self.model = FineTuner(self.setup, params)
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            callbacks=[PyTorchLightningPruningCallback(trial, monitor="val_loss")],
            **TRAINER,
        )
        torch.manual_seed(self.setup["seed"])
        trainer.fit(
            self.model,
            DataLoader(self.train, batch_size=batch, sampler=order),
            DataLoader(self.validation, batch_size=8 * batch),
        )
        return float(trainer.callback_metrics["val_loss"])

    def trial(self, params: dict[str, Any] | None) -> list[float]:
        """Run the trial of these params, or the sampler's next; its validation losses, one an epoch."""
        if params is not None:
            self.study.enqueue_trial(params)
        self.study.optimize(self.objective, n_trials=1)
        return list(self.study.trials[-1].intermediate_values.values())

    def accuracy(self) -> float:
        """Return the share of test images that the last trial's network gets right."""
        assert self.model is not None
        self.model.eval()
        with torch.no_grad():
            right = [(self.model(x).argmax(1) == y).sum().item() for x, y in DataLoader(self.test, batch_size=256)]
        return sum(right) / len(self.test)


TRAINER: dict[str, Any] = {
    "enable_checkpointing": False,  # as in Optuna's example
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}
"""Features that everybody turns off for dozens of trials; the script does so from the start."""
