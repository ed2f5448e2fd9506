"""Scores of predictions on a set of examples, and a description of the test set."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_auroc,
    multiclass_average_precision,
    multiclass_f1_score,
    multiclass_recall,
)
from torchmetrics.functional.regression import mean_absolute_error, mean_squared_error, r2_score

from search.data.examples import Examples
from search.training.jackknife import pseudo_values, standard_error
from search.verdict.metric import METRICS, Metric, fitting

MAX_EXAMPLES_SHOWN = 24
"""Test examples whose images are kept for the page."""
MAX_SIDE_PIXELS = 64
"""The longer side of their thumbnails."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """Scores of predictions for N examples.

    values: scores by the name of the trial's attribute.
    example_scores: (N,), see `example_scores`.
    predicted: probabilities (N, C), float16; or outputs (N, K), float32.
    """

    values: dict[str, float]
    example_scores: Tensor
    predicted: Tensor


def score(outputs: Tensor, targets: Tensor, *, metric: Metric, groups: Tensor | None = None) -> Scores:
    """Score a model on the test set, by all metrics of its kind of task.

    outputs, targets: as in `evaluate`.
    metric: the study's, which `example_scores` and `test_se` are of.
    groups: (N,) integers; examples that share one are sampled together.
    Raises `ValueError` if a regressor's outputs do not have the targets' shape.
    """
    examples = example_scores(outputs, targets, metric=metric, groups=groups)
    found = {metric.attribute: value for metric, value in all_scores(outputs, targets).items()}
    values = {**found, "test_examples": len(targets)}
    if isfinite(error := standard_error(examples, groups)):
        values["test_se"] = error
    if metric.attribute in found:
        values["test_trivial"] = trivial_score(targets, classes=outputs.shape[-1], metric=metric)
    is_class = not targets.is_floating_point()
    predicted = outputs.double().softmax(1).half() if is_class else outputs.reshape(len(targets), -1).float()
    return Scores(values=values, example_scores=examples, predicted=predicted)


def all_scores(outputs: Tensor, targets: Tensor) -> dict[Metric, float]:
    """Return every metric that fits the targets and is defined on these examples."""
    names = [metric.name for metric in fitting("regression" if targets.is_floating_point() else "classification")]
    found = evaluate(outputs, targets, names)
    return {METRICS[name]: value for name, value in found.items() if value == value}


def validation_scores(outputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Return validation scores by the names of a trial's attributes."""
    return {metric.validated: value for metric, value in all_scores(outputs, targets).items()}


def evaluate(outputs: Tensor, targets: Tensor, names: Iterable[str]) -> dict[str, float]:
    """Return metrics by name, each over all of these examples at once.

    A metric is NaN where it is not defined, and all are for a model that has diverged: it still guesses some
    examples right. Means over classes are over those that have examples.

    outputs: logits (N, C) of a classifier, or values (N, K) of a regressor.
    targets: class indices (N,), or floats (N,) or (N, K).
    Raises `ValueError` if a regressor's outputs do not have the targets' shape.
    """
    outputs, targets = _aligned(outputs, targets)
    if not outputs.isfinite().all():
        return dict.fromkeys(names, nan)
    compute = _regression if targets.is_floating_point() else _classification
    return {name: float(compute(name, outputs, targets)) for name in names}


def trivial_score(targets: Tensor, *, classes: int, metric: Metric) -> float:
    """Return the score of the best constant answer to these targets.

    That is the frequencies of the classes, of numbers the mean, or the median for the mean absolute error.
    """
    if targets.is_floating_point():
        numbers = targets.reshape(len(targets), -1).double()
        constant = numbers.median(0).values if metric.name == "mae" else numbers.mean(0)
    else:
        constant = (torch.bincount(targets, minlength=classes) / len(targets)).clamp(min=1e-12).log()
    return evaluate(constant.repeat(len(targets), 1), targets, [metric.name])[metric.name]


def example_scores(outputs: Tensor, targets: Tensor, *, metric: Metric, groups: Tensor | None = None) -> Tensor:
    """Return each test example's share (N,) in the metric, whose mean is the metric.

    Of a mean over examples it is the example's own: correct or not (bool), or its loss or error (float64). Of others it
    is the pseudo-value of `jackknife`. All NaN where the metric is not defined.
    """
    outputs, targets = _aligned(outputs, targets)
    if not metric.is_mean:
        return pseudo_values(
            lambda rest: evaluate(outputs[rest], targets[rest], [metric.name])[metric.name],
            torch.arange(len(targets)) if groups is None else groups,
            width=outputs.shape[1],
        )
    if not outputs.isfinite().all():
        return torch.full((len(targets),), nan)
    if metric.name == "accuracy":
        return outputs.argmax(1) == targets
    if not targets.is_floating_point():
        return cross_entropy(outputs.double(), targets, reduction="none")
    errors = outputs - targets
    return (errors.abs() if metric.name == "mae" else errors.square()).mean(1)


def _aligned(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits in float32, or values (N, K) and targets of that shape in float64."""
    if not targets.is_floating_point():
        return outputs.float(), targets
    kept, truth = (one.reshape(len(targets), -1).double() for one in (outputs, targets))
    if kept.shape != truth.shape:
        raise ValueError(f"Outputs of shape {tuple(kept.shape)} can't be scored on targets {tuple(truth.shape)}.")
    return kept, truth


def _classification(name: str, logits: Tensor, targets: Tensor) -> Tensor | float:
    if name == "loss":
        return cross_entropy(logits, targets)
    settings: dict[str, Any] = {"num_classes": logits.shape[1], "average": None, "validate_args": False}
    if name == "accuracy":
        return multiclass_accuracy(logits.argmax(1), targets, **{**settings, "average": "micro"})
    # A class without examples has no recall. It has no positives either, of which torchmetrics makes a curve at 0.
    present, labels = torch.unique(targets, return_inverse=True)
    if name in ("balanced_accuracy", "f1"):
        each = (multiclass_recall if name == "balanced_accuracy" else multiclass_f1_score)(
            logits.argmax(1), targets, **settings
        )
        return each[present].mean()
    if len(present) < 2:
        return nan
    curve = multiclass_auroc if name == "auroc" else multiclass_average_precision
    columns = logits.double().softmax(1)[:, present]
    return curve(columns, labels, **{**settings, "num_classes": len(present)}).mean()


def _regression(name: str, outputs: Tensor, targets: Tensor) -> Tensor | float:
    if name == "mae":
        return mean_absolute_error(outputs, targets)
    if name != "r2":
        return mean_squared_error(outputs, targets, squared=name == "loss")
    # A mean over the outputs that vary, in standard units: torchmetrics takes sums of squares below 1e-4 for 0.
    spread = targets.std(0, correction=0)
    varies = spread > 0
    if not varies.any():
        return nan
    middle, spread = targets.mean(0)[varies], spread[varies]
    return r2_score((outputs[:, varies] - middle) / spread, (targets[:, varies] - middle) / spread)


def describe_test(examples: Examples, classes: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Describe a test set: `targets`, `classes`, perhaps `groups`, and for images `shown` and `thumbnails`.

    shown: (M,) indices of at most 24 examples, the classes in turn; the same in every process.
    thumbnails: uint8 (M, h, w, 3), at most 64 pixels a side.
    """
    inputs, targets = examples.inputs, examples.targets
    kept: dict[str, NDArray[Any]] = {"targets": targets.numpy(), "classes": np.array(classes, dtype=np.str_)}
    if examples.groups is not None:
        kept["groups"] = examples.groups.numpy()
    if len(classes):
        shown = _in_turn(targets)[:MAX_EXAMPLES_SHOWN]
        if (pixels := _pixels(inputs, shown)) is not None:
            kept |= {"shown": shown.numpy(), "thumbnails": _thumbnails(pixels)}
    return kept


def _in_turn(targets: Tensor) -> Tensor:
    # One random order; then each class's first example, then each class's second, and so on.
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    rank = torch.zeros(len(targets), dtype=torch.int64)
    for label in torch.unique(targets):
        members = torch.nonzero(targets[order] == label).squeeze(1)
        rank[members] = torch.arange(len(members))
    return order[torch.argsort(rank, stable=True)]


def _pixels(inputs: Any, indices: Tensor) -> Tensor | None:
    """Return images (B, C, H, W) in 0-255; None if the inputs are none."""
    if hasattr(inputs, "pixels_of"):
        return inputs.pixels_of(indices).float()  # type: ignore[no-any-return]
    if not isinstance(inputs, Tensor) or inputs.ndim != 4 or inputs.shape[1] not in (1, 3):
        return None
    low, high = inputs.min(), inputs.max()
    return (inputs[indices].float() - low) / (high - low).clamp(min=1e-12) * 255


def _thumbnails(pixels: Tensor) -> NDArray[np.uint8]:
    height, width = pixels.shape[2:]
    shrink = min(1.0, MAX_SIDE_PIXELS / max(height, width))
    size = (max(1, round(shrink * height)), max(1, round(shrink * width)))
    small = interpolate(pixels, size=size, mode="area") if shrink < 1 else pixels
    colour = small[:, :3] if small.shape[1] >= 3 else small[:, :1].expand(-1, 3, -1, -1)
    return np.asarray(colour.permute(0, 2, 3, 1).round().clamp(0, 255).to(torch.uint8).numpy())
