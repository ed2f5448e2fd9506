"""Parameters that the hooks of a user's own module freeze."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from search.data.batches import EvalLoader, train_loader
from search.data.examples import Examples
from search.errors import TaskError
from search.models.network import Parts
from search.seeds import seeded
from search.task.checks import check_choices
from search.task.dropped import frozen_line
from search.task.optimizers import build_optimizer
from search.task.task import Task
from search.training.own_steps import check_steps, few
from search.training.trainer import callbacks_of, lean_trainer, with_optimizer
from search.user_code import one_line
from strategies import layer_groups


def checked(task: Task) -> Task:
    """Return a task with notes on its user's own module, after a try. Raises `TaskError`."""
    return task.noted([*check_steps(task), *check_hooks(task)])


def check_hooks(task: Task) -> list[str]:
    """Train a user's module for one batch, and name what its hooks freeze.

    `task.parts` are frozen likewise, so that the task counts right. Raises `TaskError` if the step fails, or if too
    little is left to train.
    """
    where = f"[model] backbone = {task.spec.model.backbone!r}: "
    with seeded(task.seed(0)):
        parts = task.network.build()
        if parts.module is None:
            return []
        lines = [where + line for line in _unstopped(task, parts.module)]
        frozen = _frozen_in_hooks(task, parts, few(task))
    if not frozen:
        return lines
    groups = layer_groups(parts.backbone, groups=task.spec.model.groups, head=parts.head)
    check_choices(task.spec, groups, where=where)
    assert task.parts.module is not None
    for name in frozen:
        task.parts.module.get_parameter(name).requires_grad_(False)
    return [*lines, where + frozen_line(task.spec, frozen, place=" in its hooks")]


def _unstopped(task: Task, module: LightningModule) -> list[str]:
    """Return a line on sizes at which `EarlyStopping` has no score to wait for."""
    sizes = [size for size in task.sizes if not len(task.split(repeat=0, size=size).validate)]
    if not sizes or not any(isinstance(callback, EarlyStopping) for callback in callbacks_of(module)):
        return []
    return [
        f"its EarlyStopping is not taken at {', '.join(map(str, sizes))} labels, where none is left to validate; "
        "to have it: smaller [task] sizes."
    ]


def _frozen_in_hooks(task: Task, parts: Parts, examples: Examples) -> list[str]:
    module, spec = parts.module, task.spec
    assert module is not None
    parameters = dict(module.named_parameters())
    free = {name for name, parameter in parameters.items() if parameter.requires_grad}
    trained = with_optimizer(module, build_optimizer(spec.train, [*parameters.values()]))
    batches = train_loader(examples, batch_size=len(examples), steps=1, seed=0)
    validation = EvalLoader(examples, batch_size=len(examples))  # callbacks may wait for its scores
    watch = _Frozen()
    try:
        lean_trainer(spec.train, epochs=1, callbacks=[watch]).fit(trained, batches, validation)
    except Exception as error:
        raise TaskError(f"[model] backbone = {spec.model.backbone!r}: training fails: {one_line(error)}") from error
    return [name for name in watch.names if name in free]


class _Frozen(Callback):
    """Names of the parameters that are frozen when the first batch has ended."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.names = [name for name, parameter in pl_module.named_parameters() if not parameter.requires_grad]
