"""A study's task, loaded and checked: splits by (repeat, size), networks by (strategy, repeat)."""

from collections import OrderedDict
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from numpy.typing import NDArray
from torch import Tensor, nn

from search.data.examples import Examples, TaskData, Tensors, tensors_of
from search.data.images import rotations
from search.data.load import load_data
from search.data.split_checks import check_sizes, missing_classes, untested_classes
from search.data.splits import Split, Splits
from search.errors import TaskError
from search.models.checks import check_order, feature_width
from search.models.flops import forward_flops, head_flops
from search.models.network import Network, Parts
from search.models.registry import find_network
from search.models.weights import load_weights
from search.seeds import derive_seed, seeded
from search.spec.study_spec import StudySpec
from search.task.checks import check_data, check_fit, check_metric, check_own
from search.task.dropped import dropped
from search.task.prepare import prepared, samples
from search.verdict.metric import Metric, metric_of
from strategies import FreezingStrategy, LayerGroup, layer_groups, trained_parameters


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """Everything that a trial starts from: data, network, and pretrained weights.

    source: the source task's data, still raw.
    parts: a network to count and to inspect; trials make their own.
    features: the width of the backbone's features.
    example: two inputs.
    splits: of each repeat and size.
    """

    spec: StudySpec
    data: TaskData
    source: TaskData | None
    network: Network
    parts: Parts
    groups: list[LayerGroup]
    features: int
    example: Tensors
    splits: Splits
    weights: dict[str, Tensor] | None = None
    # The backbone that trials copy, once made: a list of at most one, since a frozen class can't set a field.
    _template: list[nn.Module] = field(default_factory=list, repr=False)

    @classmethod
    def load(cls, spec: StudySpec, *, cache: Path | None = None) -> "Task":
        """Load and check the data and the network that a study file names.

        `cache`: a folder for decoded images, shared by processes; without it nothing is written.
        Raises `TaskError`, or `SpecError` if the space asks for more groups than the backbone has.
        """
        task = cls.inspect(spec)
        data = prepared(task.data, task.network, spec, cache=cache)
        splits = _splits(spec, data)
        check_sizes(splits, spec.task.sizes, classes=data.classes)
        lines = [*missing_classes(splits, spec.task.sizes, data.classes), *untested_classes(data)]
        if spec.task.shuffle_labels:
            data = _shuffled(data, seed=spec.search.seed)
        return replace(task, data=data, splits=splits).noted([f"{data.origin}: {line}" for line in lines])

    @classmethod
    def inspect(cls, spec: StudySpec) -> "Task":
        """Load and check a task, its data still raw. Raises as `load` does."""
        if spec.train.accelerator == "gpu" and not torch.accelerator.is_available():
            raise TaskError("[train] accelerator = 'gpu': there is none on this machine; allowed: auto, cpu.")
        table = spec.task
        data = load_data(
            table.data,
            table.options,
            where="[task] data",
            test=table.test,
            group_by=table.group_by,
            pixel_range=table.pixel_range,
        )
        source = _source(spec)
        splits = _splits(spec, data)
        check_data(spec, data, source, splits)
        network = find_network(spec.model)
        parts = network.build()
        check_metric(spec, data, parts)
        try:
            groups = layer_groups(parts.backbone, groups=spec.model.groups, head=parts.head)
        except ValueError as error:
            raise TaskError(f"[model] backbone = {spec.model.backbone!r}: {error}") from None
        example, *others = (inputs for one in (data, source) if one for inputs in samples(one, network, spec))
        features = check_order(parts.backbone, groups, example)
        for inputs in others:  # of another file, perhaps of another shape
            feature_width(parts.backbone, inputs)
        task = cls(
            spec=spec,
            data=data,
            source=source,
            network=network,
            parts=parts,
            groups=groups,
            features=features,
            example=example,
            splits=splits,
            weights=load_weights(spec.model, network, parts.backbone),
        )
        check_fit(spec, parts=parts, groups=groups, example=example, outputs=data.outputs)
        fresh = parts
        if ":" in spec.model.backbone:
            with seeded(task.seed(0)):
                fresh = network.build()
            check_own(spec, parts=parts, rebuilt=fresh)
        return task.noted(dropped(spec, data, fresh))

    def noted(self, lines: Sequence[str]) -> "Task":
        """Return the task with more notes for the user."""
        return replace(self, data=replace(self.data, notes=(*self.data.notes, *lines)))

    @property
    def metric(self) -> Metric:
        """The metric by which strategies are searched and judged."""
        return metric_of(self.spec.task.metric, self.data.kind, own=self.parts.module is not None)

    @property
    def num_groups(self) -> int:
        return len(self.groups)

    @property
    def facts(self) -> dict[str, Any]:
        """Facts that a study stores of its task: arguments of `search.study.create.create_studies`."""
        return {
            "num_groups": self.num_groups,
            "kind": self.data.kind,
            "own_metric": self.metric.own,
            "groups": [group.name for group in self.groups],
            "flops": self.flops,
            "data": self.data.fingerprint,
            "marks": self.data.marks,
            "classes": self.data.classes,
            "all": self.splits.all,
            "unexplored": [size for size in self.sizes if not self.splits.explores(size)],
            "cross_validated": self.data.cross_validated,
            "labels": len(self.data.pool),
        }

    @property
    def flops(self) -> list[int]:
        """Operations of one example's forward pass in each layer group, then in the head.

        [] where the counter fails on the user's own network, or sees none.
        """
        count = len(tensors_of(self.example)[0])
        try:
            backbone = forward_flops(self.parts.backbone, self.groups, self.example)
            brought = head_flops(self.parts, self.example)
        except Exception:
            return []
        linear = 0 if self.parts.head is not None else 2 * self.features * self.data.outputs
        return [*(flops // count for flops in backbone), brought // count + linear] if sum(backbone) else []

    @property
    def sizes(self) -> list[int]:
        """The sizes of the study in numbers, ascending."""
        return self.splits.sizes(self.spec.task.sizes)

    def seed(self, repeat: int) -> int:
        """Return the seed of all that is random in a repeat's trials: head, batches, dropout."""
        return derive_seed(self.spec.search.seed, "repeat", repeat)

    def with_weights(self, weights: dict[str, Tensor]) -> "Task":
        """Return the task with pretrained weights; the source task's data are no longer needed."""
        return replace(self, weights=weights, source=None, _template=[])

    def split(self, *, repeat: int, size: int) -> Split:
        """Return that repeat's split at that size."""
        return self.splits.split(repeat=repeat, size=size)

    def take(self, indices: NDArray[np.int64]) -> Examples:
        """Return examples of one part of the data, by indices of a `Split`."""
        first = 0
        for part in self.data.parts.values():
            if len(indices) and first <= indices[0] < first + len(part):
                return part.subset(torch.from_numpy(indices - first))
            first += len(part)
        return self.data.pool.subset(torch.from_numpy(indices))

    def added_by_size(self, size: int) -> list[slice]:
        """Return the training examples that each size up to this one added."""
        return [slice(a, b) for a, b in pairwise([0, *(n for n in self.sizes if n < size), size])]

    def build(self, strategy: FreezingStrategy, *, repeat: int) -> tuple[nn.Module, nn.Module, LightningModule | None]:
        """Build a fresh backbone and head, from which the strategy's trials in that repeat start.

        The third is the user's own module around both, if `[model]` names one.
        """
        bare = self.parts.head is None and self.parts.neck is None
        with seeded(self.seed(repeat)):
            linear = nn.Linear(self.features, self.data.outputs)
            if bare and strategy.pretrained and self.weights is not None and (copied := self._copied(self.weights)):
                return copied, linear, None
            parts = self.network.build()
        if strategy.pretrained and self.weights is not None:
            _load(parts, self.weights)
        if parts.head is not None:
            return parts.backbone, parts.head, parts.module
        if parts.neck is not None:
            return parts.backbone, nn.Sequential(OrderedDict(pooler=parts.neck, linear=linear)), None
        return parts.backbone, linear, None

    def _copied(self, weights: dict[str, Tensor]) -> nn.Module | None:
        # A network's random initialisation takes up to some seconds (VGG-16: 2 s), a copy some milliseconds.
        if not self._template:
            parts = self.network.build()
            _load(parts, weights)
            self._template.append(parts.backbone)
        try:
            return deepcopy(self._template[0])
        except RuntimeError:  # tensors that are made of parameters, as by `weight_norm`, can't be copied
            return None

    def trainable_parameters(self, strategy: FreezingStrategy) -> int:
        """Count the parameters that train by the end of a run, the head's too."""
        trained = trained_parameters(self.groups, strategy, max_epochs=self.spec.train.epochs)
        backbone = sum(parameter.numel() for parameter in trained.values())
        brought = [part for part in (self.parts.head, self.parts.neck) if part is not None]
        linear = 0 if self.parts.head is not None else (self.features + 1) * self.data.outputs
        return backbone + linear + sum(parameter.numel() for part in brought for parameter in part.parameters())


def _source(spec: StudySpec) -> TaskData | None:
    if spec.source is None:
        return None
    table = spec.source
    # Slices of the same data are cut between the same groups, so that source and task share none.
    group_by = spec.task.group_by if table.data == spec.task.data else None
    data = load_data(
        table.data,
        table.options,
        where="[source] data",
        group_by=group_by,
        judged=False,
        pixel_range=table.pixel_range,
    )
    return rotations(data) if spec.source.labels == "rotation" else data


def _load(parts: Parts, weights: dict[str, Tensor]) -> None:
    neck = {key.removeprefix("neck."): value for key, value in weights.items() if key.startswith("neck.")}
    if parts.neck is not None and neck:
        parts.neck.load_state_dict(neck)
        weights = {key: value for key, value in weights.items() if not key.startswith("neck.")}
    parts.backbone.load_state_dict(weights)


def _shuffled(data: TaskData, *, seed: int) -> TaskData:
    # The control: labels that say nothing about the inputs, in the pool and where they evaluate.
    def shuffle(examples: Examples, part: str) -> Examples:
        generator = torch.Generator().manual_seed(derive_seed(seed, "shuffle", part))
        return replace(examples, targets=examples.targets[torch.randperm(len(examples), generator=generator)])

    return data.map(shuffle)


def _splits(spec: StudySpec, data: TaskData) -> Splits:
    train = spec.train
    steps = None if train.steps is None else train.steps * train.batch_size
    return Splits.of(data, seed=spec.search.seed, epoch_examples=steps)
