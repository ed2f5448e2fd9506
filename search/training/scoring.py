"""Scores of predictions on the test set, and a description of the test set."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score, roc_auc_score
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

MAX_EXAMPLES_SHOWN = 24
"""Test examples whose images are kept for the page."""
MAX_SIDE_PIXELS = 64
"""The longer side of their thumbnails."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """Scores of predictions for N examples.

    values: scores by the name of the trial's attribute.
    example_scores: (N,) correct or not (bool), or the squared error averaged over outputs (float64).
    predicted: probabilities (N, C), float16; or outputs (N, K), float32.
    """

    values: dict[str, float]
    example_scores: Tensor
    predicted: Tensor


def score(predicted: Tensor, targets: Tensor) -> Scores:
    """Score logits (N, C) of a classifier, or outputs (N, K) of a regressor.

    targets: class indices (N,), or floats (N,) or (N, K).
    Raises `ValueError` if a regressor's outputs do not have the targets' shape.
    """
    return _score_outputs(predicted, targets) if targets.is_floating_point() else _score_logits(predicted, targets)


def _score_logits(logits: Tensor, targets: Tensor) -> Scores:
    logits = logits.float()
    chosen = logits.argmax(1)
    correct = chosen == targets
    probabilities = logits.double().softmax(1)
    values = {
        "test_accuracy": correct.float().mean().item(),
        "test_loss": cross_entropy(logits, targets).item(),
        "test_examples": len(targets),
        "test_macro_f1": float(f1_score(targets, chosen, average="macro", zero_division=0.0)),
    }
    # One-vs-rest AUROC is undefined for a class without examples.
    if probabilities.isfinite().all() and len(torch.unique(targets)) == probabilities.shape[1] > 1:
        values["test_auroc"] = _auroc(probabilities, targets)
    return Scores(values=values, example_scores=correct, predicted=probabilities.half())


def _auroc(probabilities: Tensor, targets: Tensor) -> float:
    if probabilities.shape[1] == 2:
        return float(roc_auc_score(targets, probabilities[:, 1]))
    return float(roc_auc_score(targets, probabilities, multi_class="ovr", average="macro"))


def _score_outputs(outputs: Tensor, targets: Tensor) -> Scores:
    kept = outputs.reshape(len(targets), -1).float()
    truth = targets.reshape(len(targets), -1).double()
    if kept.shape != truth.shape:
        raise ValueError(f"Outputs of shape {tuple(kept.shape)} can't be scored on targets {tuple(truth.shape)}.")
    errors = kept.double() - truth
    squared = errors.square().mean(1)
    mse = squared.mean().item()
    values = {
        "test_mse": mse,
        "test_loss": mse,
        "test_mae": errors.abs().mean().item(),
        "test_examples": len(targets),
    }
    if len(targets) > 1:
        values["test_se"] = squared.std().item() / math.sqrt(len(targets))
    # The share of variance explained, a mean over the outputs that vary.
    spread = (truth - truth.mean(0)).square().sum(0)
    if (varies := spread > 0).any():
        values["test_r2"] = (1 - errors.square().sum(0)[varies] / spread[varies]).mean().item()
    return Scores(values=values, example_scores=squared, predicted=kept)


def describe_test(inputs: Any, targets: Tensor, classes: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Describe a test set: `targets`, `classes`, and for images `shown` and `thumbnails`.

    shown: (M,) indices of at most 24 examples, the classes in turn; the same in every process.
    thumbnails: uint8 (M, h, w, 3), at most 64 pixels a side.
    """
    kept: dict[str, NDArray[Any]] = {"targets": targets.numpy(), "classes": np.array(classes, dtype=np.str_)}
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
