"""The two loops that a trial's cost is measured against: Lightning's own, and none but PyTorch's."""

from collections.abc import Iterator

import lightning
import torch
from cases import Case
from script import TRAINER
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

WIDTH = {"resnet18": 512, "mobilenet_v2": 1280, "lenet": 84}


class Ready:
    """Hold batches in memory: Lightning would take a plain list for a list of loaders."""

    def __init__(self, *sizes: int, width: int) -> None:
        self.batches = [(torch.randn(size, width), torch.randint(0, 10, (size,))) for size in sizes]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.batches)


class Head(lightning.LightningModule):
    def __init__(self, width: int, lr: float) -> None:
        super().__init__()
        self.head = nn.Linear(width, 10)
        self.lr = lr

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        features, labels = batch
        return cross_entropy(self.head(features), labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        features, labels = batch
        logits = self.head(features)
        self.log("val_loss", cross_entropy(logits, labels), batch_size=len(labels))
        self.log("val_accuracy", (logits.argmax(1) == labels).float().mean(), batch_size=len(labels))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.lr, fused=True)


class Bare:
    """A linear head on features that lie ready in batches: nothing is loaded, stored, reported or judged."""

    def __init__(self, case: Case, lr: float) -> None:
        torch.set_num_threads(case.threads)
        self.case, self.lr, self.width = case, lr, WIDTH[case.network]
        self.batches = Ready(*[32] * case.steps, width=self.width)
        self.held_out = Ready(case.size // 5, width=self.width)

    def in_lightning(self) -> None:
        trainer = lightning.Trainer(max_epochs=self.case.epochs, accelerator="cpu", **TRAINER)
        trainer.fit(Head(self.width, self.lr), self.batches, self.held_out)

    def in_a_loop(self) -> None:
        head = nn.Linear(self.width, 10)
        optimizer = torch.optim.AdamW(head.parameters(), lr=self.lr, fused=True)
        for _ in range(self.case.epochs):
            for features, labels in self.batches:
                loss = cross_entropy(head(features), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                for features, labels in self.held_out:
                    logits = head(features)
                    cross_entropy(logits, labels).item()
                    (logits.argmax(1) == labels).float().mean().item()
