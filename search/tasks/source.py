"""The source task: train the backbone on labels of our own, once per study."""

from pathlib import Path

import torch
from torch import Tensor, nn

from search.home import Home
from search.spec import StudySpec
from search.tasks.data import load_data
from search.tasks.loading import train_loader
from search.tasks.models import build_backbone
from search.tasks.module import Classifier, build_optimizer, lean_trainer, predict
from search.tasks.task import Task, derive_seed, load_weights


def with_source_weights(task: Task, home: Home) -> Task:
    """The task with its backbone's weights: from the study's folder, or trained and put there first.

    One process trains while the others wait; the file appears whole or not at all.
    """
    if task.spec.model.weights != "source":
        return task
    file = home.folder / f"source-{_key(task.spec)}.pt"
    with home.lock("source"):
        if not file.is_file():
            _save(train_source(task.spec), file)
    return task.with_weights(load_weights(file, build_backbone(task.spec.model.backbone)))


def train_source(spec: StudySpec) -> dict[str, Tensor]:
    """Train the backbone on the source task with a Lightning run; returns its state dict."""
    assert spec.source is not None
    data = load_data(spec.source.data, where="[source] data")
    seed = derive_seed(spec.search.seed, "source")
    torch.manual_seed(seed)
    backbone = build_backbone(spec.model.backbone)
    with torch.no_grad():
        width = backbone(data.pool.inputs[:2]).shape[1]
    head = nn.Linear(width, len(data.classes))
    groups = [{"params": [*backbone.parameters(), *head.parameters()], "lr": spec.source.lr}]
    model = Classifier(backbone, head, optimizer=build_optimizer(spec.train, groups))
    loader = train_loader(data.pool, batch_size=spec.train.batch_size, steps=spec.source.steps_per_epoch, seed=seed)
    model.train()
    lean_trainer(spec.train, epochs=spec.source.epochs).fit(model, loader)
    if len(data.test):
        accuracy = (predict(model, data.test).argmax(1) == data.test.targets).float().mean().item()
        print(f"Source task {spec.source.data}: accuracy {accuracy:.3f} on {len(data.test)} test examples.")
    return backbone.state_dict()


def _key(spec: StudySpec) -> str:
    # Whatever the weights depend on; a study file that was changed gets weights of its own.
    made_by = (spec.source, spec.model.backbone, spec.train.model_copy(update={"epochs": 1, "steps_per_epoch": 1}))
    return f"{derive_seed(spec.search.seed, made_by):08x}"


def _save(state: dict[str, Tensor], file: Path) -> None:
    partial = file.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(file)
