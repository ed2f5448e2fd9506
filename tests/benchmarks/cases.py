"""Cases of the benchmark: a network, its examples, steps and strategies."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.layouts import fashion_mnist

POOL = 5000
"""Images of Fashion-MNIST's training set to draw from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A network on `size` labelled images, trained for `epochs` of `steps` batches of 32.

    A fifth of the images validates; `tested` others are the test set. threads: of each process. precision: the
    product's `[train] precision`.
    """

    network: str
    pixels: int
    groups: int
    size: int = 1000
    tested: int = 500
    epochs: int = 10
    steps: int = 10
    trials: int = 13
    threads: int = 1
    pruner: str = "none"
    precision: str = "32-true"

    def strategies(self) -> dict[str, dict[str, Any]]:
        """List 13 strategies as params: linear probing, then four depths, each unfreezing at three epochs.

        Where the case has fewer trials, the first of them.
        """
        found: dict[str, dict[str, Any]] = {"linear probing": {"freeze_depth": self.groups, "head_lr": 1e-2}}
        for depth in (self.groups - 1, self.groups - 2, self.groups - 3, 0):
            for percent in (0, 30, 60):
                found[f"depth {depth}, unfreezes at {percent} %"] = {
                    "freeze_depth": depth,
                    "head_lr": 1e-3,
                    "unfreeze_epoch": self.epochs * percent // 100,
                    "backbone_lr_ratio": 0.3,
                }
        return dict(list(found.items())[: self.trials])


RESNET = Case(network="resnet18", pixels=64, groups=5)
MOBILENET = Case(network="mobilenet_v2", pixels=64, groups=19)
LENET = Case(network="lenet", pixels=28, groups=4, size=200, epochs=30, steps=10, trials=30)


def assets() -> Path:
    """Find the folder with data and weights: $FROSTLINE_ASSETS, or shared/assets beside the checkout."""
    named = os.environ.get("FROSTLINE_ASSETS")
    folder = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "assets"
    if not folder.is_dir():
        raise SystemExit(f"There is no {folder}: let FROSTLINE_ASSETS name a folder with fashion-mnist/*.gz.")
    return folder


def write_data(case: Case, folder: Path) -> Path:
    """Fashion-MNIST's first images as one .npz file."""
    file = folder / "clothes.npz"
    if not file.exists():
        (x, y), (x_test, y_test) = (
            fashion_mnist(assets(), part, count) for part, count in (("train", POOL), ("t10k", case.tested))
        )
        np.savez(file, x=x, y=y, x_test=x_test, y_test=y_test)
    return file


def write_weights(case: Case, folder: Path) -> Path:
    """Return the file of a case's weights: ImageNet's for MobileNetV2, else random ones, made here."""
    if case.network == "mobilenet_v2":
        return assets() / "mobilenet_v2-b0353104.pth"
    file = folder / f"{case.network}.pth"
    if not file.exists():
        from script import NETWORKS

        torch.manual_seed(0)
        torch.save(NETWORKS[case.network]()[0].state_dict(), file)
    return file


def made(folder: Path) -> Path:
    """Make a new folder."""
    folder.mkdir()
    return folder
