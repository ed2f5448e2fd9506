"""Scores of a user's own module, as its own steps log them."""

from collections.abc import Callable, Mapping, Sequence
from math import isclose, nan

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

from search.data.batches import EvalLoader
from search.data.examples import Examples
from search.device import PLAIN, ComputeFormat, eval_batch
from search.errors import TaskError
from search.seeds import seeded
from search.task.task import Task
from search.training.callbacks import ProgressCallback
from search.training.module import predict
from search.training.scoring import Scores, evaluate, score
from search.training.trainer import lean_trainer, without_checkpoints
from search.user_code import one_line
from search.verdict.metric import METRICS, fitting

CHECKED_BATCHES = 2
"""Batches on which the user's steps are tried before any training."""
SAME_SHARE = 1e-4
"""Two scores that differ by a smaller share count as the same."""
STEPS = {"test": "test_", "validation": "val_"}
"""A module's steps that log scores, and the prefix of the names."""


def own_scores(
    model: LightningModule,
    examples: Examples,
    task: Task,
    *,
    repeat: int,
    groups: Tensor | None = None,
    compute_format: ComputeFormat = PLAIN,
    progress: Callable[[], None] = lambda: None,
) -> tuple[dict[str, float], Scores | None]:
    """Score a user's module on test examples by what it logs.

    Its `test_step` logs "test_<metric>", else its `validation_step` "val_<metric>". A metric that the study file
    names and neither logs is computed from the outputs. Return scores by their attributes of a trial, and those of
    each example where that computation gives the logged score, too. Raises `ValueError` without a score in range.
    """
    metric, logged = task.metric, dict[str, float]()
    size = eval_batch(task.spec.train.batch_size)
    with seeded(task.seed(repeat)):
        for step in STEPS:
            if metric.name not in logged:
                run = run_step(step, model, examples, task, size=size, compute_format=compute_format, progress=progress)
                logged = _named(run, step) | logged
        again = None
        if metric.name in _fitting(task):
            with compute_format.autocast(model.device):
                outputs = predict(model, examples, batch_size=size, progress=progress)
            again = score(outputs, examples.targets, metric=metric, groups=groups)
    if metric.name not in logged:
        if again is None or not computes(task):
            raise ValueError(f"the module logs no {metric.attribute}, nor {metric.validated} on the test examples")
        logged[metric.name] = again.values.get(metric.attribute, nan)
    elif again is not None:
        same = isclose(again.values.get(metric.attribute, nan), logged[metric.name], rel_tol=SAME_SHARE)
        again = again if same else None
    if not metric.allows(logged[metric.name]):
        raise ValueError(_out_of_range(task, metric.attribute, logged[metric.name]))
    others = {name: value for name, value in logged.items() if METRICS[name].allows(value)}
    known = {METRICS[name].attribute: value for name, value in {**others, metric.name: logged[metric.name]}.items()}
    return {**({} if again is None else again.values), "test_examples": len(examples), **known}, again


def check_steps(task: Task) -> list[str]:
    """Check on a few examples that a user's module logs the metric. Raises `TaskError`.

    A metric that the study file names and that fits the data may be missing: it is computed from the outputs.
    Return a line for the user on other metrics that it logs, where the study file names none.
    """
    with seeded(task.seed(0)):
        module = task.network.build().module
        if module is None:
            return []
        examples, size = few(task), task.spec.train.batch_size
        logged = {step: _tried(step, without_checkpoints(module), examples, task, size=size) for step in STEPS}
    metric, scores = task.metric, {step: _named(found, step) for step, found in logged.items()}
    names = sorted({name for found in logged.values() for name in found})
    explores = any(task.splits.explores(size) for size in task.sizes)
    if not computes(task):
        if metric.name not in scores["test"] | scores["validation"]:
            raise TaskError(_unlogged(task, f"{metric.attribute} and no {metric.validated}", names))
        if explores and metric.name not in scores["validation"]:
            raise TaskError(_unlogged(task, metric.validated, names))
    for step, prefix in STEPS.items():
        if not metric.allows(value := scores[step].get(metric.name, nan)):
            raise TaskError(f"{_where(task)}: {_out_of_range(task, prefix + metric.name, value)}")
    others = [name for name in names if name not in (metric.validated, metric.attribute)]
    if not others or task.spec.task.metric is not None:
        return []
    return [
        f"{_where(task)}: its loss judges, not its metrics {', '.join(others)}; to have one of them: [task] metric = "
        '"accuracy" or another, logged as val_accuracy and test_accuracy.'
    ]


def computes(task: Task) -> bool:
    """Check that the study file names a metric that outputs alone give."""
    name = task.spec.task.metric
    return name not in (None, "loss") and name in _fitting(task)


def computed(task: Task, examples: Examples) -> Callable[[LightningModule], float] | None:
    """Return the computation of the metric on examples; None if the module must log it."""
    if not computes(task):
        return None
    name, size = task.metric.name, eval_batch(task.spec.train.batch_size)

    def compute(module: LightningModule) -> float:
        with seeded(0):  # reading examples draws
            return evaluate(predict(module, examples, batch_size=size), examples.targets, [name])[name]

    return compute


def run_step(
    step: str,
    model: LightningModule,
    examples: Examples,
    task: Task,
    *,
    size: int,
    compute_format: ComputeFormat = PLAIN,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Run a module's `test_step` or `validation_step` and return what it logs."""
    if not is_overridden(f"{step}_step", model):
        return {}
    trainer = lean_trainer(
        task.spec.train, epochs=1, callbacks=[ProgressCallback(progress)], bfloat16=compute_format.bfloat16
    )
    run = trainer.test if step == "test" else trainer.validate
    run(model, EvalLoader(examples, batch_size=size), verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def _tried(step: str, model: LightningModule, examples: Examples, task: Task, *, size: int) -> dict[str, float]:
    try:
        return run_step(step, model, examples, task, size=size)
    except Exception as error:
        raise TaskError(f"{_where(task)}: its {step}_step fails: {one_line(error)}") from error


def few(task: Task) -> Examples:
    """Return some test examples, of all classes where they are as many."""
    test = task.split(repeat=0, size=task.sizes[0]).test
    count = min(len(test), CHECKED_BATCHES * task.spec.train.batch_size)
    return task.take(test[:: len(test) // count][:count])


def _named(logged: Mapping[str, float], step: str) -> dict[str, float]:
    """Return logged scores by the names of metrics."""
    found = {name.removeprefix(STEPS[step]): value for name, value in logged.items() if name.startswith(STEPS[step])}
    return {name: value for name, value in found.items() if name in METRICS}


def _fitting(task: Task) -> list[str]:
    return [metric.name for metric in fitting(task.data.kind)]


def _where(task: Task) -> str:
    return f"[model] backbone = {task.spec.model.backbone!r}"


def _unlogged(task: Task, missing: str, names: Sequence[str]) -> str:
    metric = task.metric
    computable = ", ".join(name for name in _fitting(task) if name != "loss")
    return (
        f"{_where(task)}: its steps log no {missing} (logged: {', '.join(names) or 'nothing'}), and a study is judged "
        f"by what they log; to type: self.log({metric.validated!r}, ...) in its validation_step, or [task] metric = "
        f"one of {computable}, computed from its outputs."
    )


def _out_of_range(task: Task, name: str, value: float) -> str:
    metric = task.metric
    return f"it logs {name} = {value:.4g}; allowed: {metric.lowest:g} to {metric.highest:g}."
