"""Checks of a study's task: data, network and space against each other."""

from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from search.data.duplicates import shared
from search.data.examples import TaskData, Tensors
from search.data.images import Images
from search.data.split_checks import check_groups, check_sizes
from search.data.splits import Splits
from search.errors import SpecError, TaskError
from search.models.network import Parts
from search.spec.study_spec import StudySpec
from search.spec.values import ends
from search.user_code import one_line
from search.verdict.metric import fitting
from strategies import FreezingStrategy, LayerGroup, trained_parameters


def check_data(spec: StudySpec, data: TaskData, source: TaskData | None, splits: Splits) -> None:
    """Check the data against the study file and the source task's data. Raises `TaskError`."""
    if len(data.test) == 0 and not data.cross_validated:
        raise TaskError(f"{data.origin} has no test set, so no winner could be confirmed.")
    by = spec.task.group_by
    check_groups(splits, where=f"{data.origin}: its groups" if by is None else f"[task] group_by = {by!r}")
    check_sizes(splits, spec.task.sizes, classes=data.classes)
    _check_class_weight(spec, data)
    _check_tested(spec, data, splits)
    for_images = {f"[model] {key}": getattr(spec.model, key) for key in ("image_size", "mean", "std")}
    for key, value in (for_images | {"[train] augment": spec.train.augment}).items():
        if value and not isinstance(data.pool.inputs, Images):
            raise TaskError(f"{key} = {value}: {data.origin} is no image data; leave it out.")
    judged = data.pool if data.cross_validated else data.test
    if source is not None and len(again := shared(source.pool, judged)):
        raise TaskError(
            f"[source] data: {len(again)} of its examples are test examples of [task]; give both a part, as "
            "[0.0, 0.5] and [0.5, 1.0]."
        )


def _check_class_weight(spec: StudySpec, data: TaskData) -> None:
    wanted = spec.train.class_weight
    if wanted is None:
        return
    if not data.classes:
        raise TaskError("[train] class_weight is for classes; the targets here are numbers; leave it out.")
    if isinstance(wanted, dict) and (unknown := [name for name in wanted if name not in data.classes]):
        known = ", ".join(data.classes[:20]) + (", ..." if len(data.classes) > 20 else "")
        raise TaskError(f"[train] class_weight: {unknown[0]!r} is no class; allowed: {known}.")


def _check_tested(spec: StudySpec, data: TaskData, splits: Splits) -> None:
    """Check that the metric is defined on the examples that each repeat tests."""
    metric = spec.task.metric
    if metric not in ("auroc", "average_precision", "r2"):
        return
    for targets in splits.tested(data):
        if len(targets) and metric == "r2" and (targets == targets[0]).all():
            raise TaskError("[task] metric = 'r2': the targets that test do not vary; allowed: loss, mae, rmse.")
        if len(targets) and metric != "r2" and len(np.unique(targets)) < 2:
            counts = np.bincount(data.pool.targets.numpy(), minlength=len(data.classes))
            rarest = f"class {data.classes[int(counts.argmin())]!r} has {counts.min()} labels"
            which = f"{rarest}, and each part of a cross-validation" if data.cross_validated else "the test set"
            raise TaskError(
                f"[task] metric = {metric!r}: {which} needs examples of two classes; allowed: accuracy, "
                "balanced_accuracy, f1, loss, or more examples."
            )


def check_metric(spec: StudySpec, data: TaskData, parts: Parts) -> None:
    """Check that the metric fits the data; an own module logs any. Raises `TaskError`."""
    allowed = [metric.name for metric in fitting(data.kind)]
    if parts.module is None and spec.task.metric not in (None, *allowed):
        raise TaskError(
            f"[task] metric = {spec.task.metric!r}: this is a {data.kind} task; allowed: {', '.join(allowed)}."
        )


def check_fit(spec: StudySpec, *, parts: Parts, groups: list[LayerGroup], example: Tensors, outputs: int) -> None:
    """Check the network against data and space. Raises `TaskError`, or `SpecError` for a depth."""
    for depth in ends(spec.space.freeze_depth):
        if depth > len(groups):
            raise SpecError(
                f"[space] freeze_depth = {depth} is beyond the backbone's layer groups; allowed: 0 to {len(groups)}."
            )
    if parts.module is not None and spec.train.class_weight is not None:
        raise TaskError(
            "[train] class_weight: a LightningModule's own steps have their own loss; weigh the classes there."
        )
    _check_head(parts, example, outputs=outputs)
    check_choices(spec, groups)


def check_own(spec: StudySpec, *, parts: Parts, rebuilt: Parts) -> None:
    """Check that the user's function builds new networks, random where that is needed. Raises `TaskError`."""
    where = f"[model] backbone = {spec.model.backbone!r}"
    whole = _whole(parts)
    if set(whole.parameters()) & set(_whole(rebuilt).parameters()):
        raise TaskError(f"{where} returns the same module twice; it must build a new one at every call.")
    pairs = zip(parts.backbone.parameters(), rebuilt.backbone.parameters(), strict=False)
    kernels = [torch.equal(one, another) for one, another in pairs if one.ndim > 1]
    if spec.has_from_scratch and kernels and all(kernels):
        raise TaskError(
            f"{where} makes the same weights at every call, so none would start from scratch: let it make random "
            "ones and name the pretrained in [model] weights, or say [space] pretrained = true."
        )
    held = {p for part in (parts.backbone, parts.head) if part for p in part.parameters()}
    outside = [name for name, p in whole.named_parameters() if p.requires_grad and p not in held]
    if outside:
        raise TaskError(
            f"{where}: {', '.join(outside[:3])}: neither the backbone's nor the head's, so nothing would train "
            "them; put them into the head, or freeze them (requires_grad = False)."
        )


def _check_head(parts: Parts, example: Tensors, *, outputs: int) -> None:
    if parts.head is None:
        return
    whole = _whole(parts)
    whole.eval()
    try:
        with torch.no_grad():
            made = whole(example)
    except Exception as error:
        raise TaskError(f"[model] backbone: its head fails on the backbone's features: {one_line(error)}") from error
    if not isinstance(made, Tensor) or made.ndim != 2 or made.shape[1] != outputs:
        shape = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
        part = "forward" if parts.module else "head"
        raise TaskError(f"[model] backbone: its {part} must return outputs (N, {outputs}), got {shape}.")


def check_choices(spec: StudySpec, groups: list[LayerGroup], *, where: str = "") -> None:
    """Check that the backbone has parameters that the space lets train. Raises `TaskError`.

    where: begins the message.
    """
    if {*ends(spec.space.freeze_depth)} == {len(groups)}:
        return
    for choice, norms in product(
        ends(spec.space.parameters) or ["trainable"], ends(spec.space.batch_norm) or ["train"]
    ):
        strategy = FreezingStrategy(freeze_depth=0, parameters=choice, batch_norm=norms)
        if not trained_parameters(groups, strategy):
            raise TaskError(
                f"{where}[space] parameters = {choice!r} with batch_norm = {norms!r} leaves the backbone nothing "
                "to train; allowed: parameters = 'all', which also trains what was frozen by hand."
            )


def _whole(parts: Parts) -> nn.Module:
    return parts.module or nn.Sequential(*(part for part in (parts.backbone, parts.head) if part is not None))
