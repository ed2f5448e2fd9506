"""Pretraining of the backbone on the study's source task, once a study."""

from pathlib import Path

import torch
from torch import Tensor, nn

from search.data.batches import train_loader
from search.device import eval_batch
from search.errors import TaskError
from search.files import replacing
from search.models.checks import feature_width
from search.models.weights import match_state_dict, read_module
from search.seeds import derive_seed, seeded
from search.spec.study_spec import StudySpec
from search.storage.location import StudyLocation
from search.task.optimizers import build_optimizer
from search.task.prepare import prepared
from search.task.task import Task
from search.training.module import Scaling, TaskModule, predict
from search.training.scoring import all_scores
from search.training.trainer import lean_trainer


def with_source_weights(task: Task, location: StudyLocation) -> Task:
    """Return the task with the source task's weights, from the study's folder or trained now.

    One process trains while the others wait; the file appears whole or not at all.
    """
    if task.spec.model.weights != "source":
        return task
    file = location.folder / f"source-{_key(task.spec)}.pt"
    with location.lock("source"):
        if not file.is_file():
            trained = train_source(task, cache=location.folder / "cache")
            with replacing(file) as stream:
                torch.save(trained, stream)
    where = f"The source task's weights {file}"
    state = match_state_dict(read_module(file, "", where=where), task.network.build().backbone, where=where)
    return task.with_weights(state)


def train_source(task: Task, *, cache: Path | None = None) -> dict[str, Tensor]:
    """Train the backbone on the source task with Lightning, and return its state dict.

    Raises `TaskError` if training diverges.
    """
    spec = task.spec
    assert spec.source is not None
    assert task.source is not None
    data = prepared(task.source, task.network, spec, cache=cache)
    print("\n".join(data.notes), end="")
    seed = derive_seed(spec.search.seed, "source")
    with seeded(seed):
        backbone = task.network.build().backbone
        first, _ = data.pool.__getitems__([0, min(1, len(data.pool) - 1)])
        head = nn.Linear(feature_width(backbone, first), data.outputs)
        groups = [{"params": [*backbone.parameters(), *head.parameters()], "lr": spec.source.lr}]
        scaling = Scaling.of(data.pool.targets, classes=data.classes, wanted=None)
        model = TaskModule(backbone, head, optimizer=build_optimizer(spec.train, groups), scaling=scaling)
        loader = train_loader(data.pool, batch_size=spec.train.batch_size, steps=spec.source.steps_per_epoch, seed=seed)
        model.train()
        lean_trainer(spec.train, epochs=spec.source.epochs).fit(model, loader)
    if len(data.test):
        outputs = predict(model, data.test, batch_size=eval_batch(spec.train.batch_size))
        scores = [f"{metric.label} {value:.4g}" for metric, value in all_scores(outputs, data.test.targets).items()]
        print(f"Source task {spec.source.data}, {len(data.test)} test examples: {', '.join(scores)}.")
    state = model.backbone.state_dict()
    if not all(tensor.isfinite().all() for tensor in state.values()):
        raise TaskError(f"[source] lr = {spec.source.lr}: training on {spec.source.data} diverged; set a smaller one.")
    return state


def _key(spec: StudySpec) -> str:
    # All that the weights depend on, so that a changed study file gets its own weights.
    train = spec.train.model_copy(update={"epochs": 1, "steps_per_epoch": 1, "timeout": 1.0, "gpus": 0.0})
    model = spec.model
    made_by = (spec.source, model.backbone, model.options, model.image_size, model.mean, model.std, train)
    return f"{derive_seed(spec.search.seed, made_by):08x}"
