"""A study's task, loaded and checked: examples by (repeat, size), and networks by (strategy, repeat)."""

from collections import OrderedDict
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from search.data.duplicates import shared
from search.data.examples import Examples, TaskData, Tensors
from search.data.images import Images, rotations
from search.data.load import load_data
from search.data.subsets import SubsetOrder, check_sizes, draw_order
from search.errors import SpecError, TaskError
from search.models.checks import check_order, feature_width
from search.models.network import Network, Parts, build
from search.models.registry import find_network
from search.models.weights import load_weights
from search.seeds import derive_seed, seeded
from search.spec.study_spec import StudySpec
from search.spec.tables import ends
from search.task.prepare import prepared, sample
from search.user_code import one_line
from strategies import FreezingStrategy, LayerGroup, layer_groups, trained_parameters


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What a trial needs to know: the data, the network, and the pretrained weights once they are there.

    parts: a network as it is built, to count and to look at; trials make their own. `example`: two inputs.
    """

    spec: StudySpec
    data: TaskData
    network: Network
    parts: Parts
    groups: list[LayerGroup]
    features: int
    example: Tensors
    weights: dict[str, Tensor] | None = None
    notes: tuple[str, ...] = ()
    _orders: dict[int, SubsetOrder] = field(default_factory=dict, repr=False)
    _template: list[nn.Module] = field(default_factory=list, repr=False)  # the backbone that trials copy, once made

    @classmethod
    def load(cls, spec: StudySpec, *, cache: Path | None = None) -> "Task":
        """Load the data and the network that a study file names, and check them.

        `cache`: a folder for decoded images, shared by processes; without it nothing is written.
        Raises `TaskError`, or `SpecError` where the space asks for more groups than the backbone has.
        """
        task = cls.inspect(spec)
        data, notes = prepared(task.data, task.network, spec, cache=cache, where="[task] data")
        check_sizes(data.pool.targets.numpy(), spec.task.sizes, classes=data.classes)
        if spec.task.shuffle_labels:
            data = _shuffled(data, seed=spec.search.seed)
        return replace(task, data=data, notes=tuple(notes))

    @classmethod
    def inspect(cls, spec: StudySpec) -> "Task":
        """The task with its data still raw, which is all that takes long: enough to tell its layer groups."""
        if spec.train.accelerator == "gpu" and not torch.accelerator.is_available():
            raise TaskError("[train] accelerator = 'gpu': there is none on this machine; allowed: auto, cpu.")
        data = load_data(spec.task.data, spec.task.options, where="[task] data")
        if len(data.test) == 0:
            raise TaskError(f"[task] data = {spec.task.data!r} has no test set, so no winner could be confirmed.")
        if data.kind == "regression" and spec.task.metric != "val_loss":
            raise TaskError(f"[task] metric = {spec.task.metric!r}: this is a regression task; allowed: val_loss.")
        check_sizes(data.pool.targets.numpy(), spec.task.sizes, classes=data.classes)
        for_images = {f"[model] {key}": getattr(spec.model, key) for key in ("image_size", "mean", "std")}
        for key, value in (for_images | {"[train] augment": spec.train.augment}).items():
            if value and not isinstance(data.pool.inputs, Images):
                raise TaskError(f"{key} = {value}: [task] data = {spec.task.data!r} is no image data; leave it out.")
        network = find_network(spec.model)
        parts = build(network, spec.model)
        try:
            groups = layer_groups(parts.backbone, groups=spec.model.groups)
        except ValueError as error:
            raise TaskError(f"[model] backbone = {spec.model.backbone!r}: {error}") from None
        for depth in ends(spec.space.freeze_depth):
            if depth > len(groups):
                raise SpecError(
                    f"[space] freeze_depth = {depth} is beyond the backbone's layer groups; "
                    f"allowed: 0 to {len(groups)}."
                )
        example = sample(data, network, spec, where="[task] data")
        features = feature_width(parts.backbone, example)
        if not isinstance(data.test.inputs, Images):  # it is another file, perhaps of another shape
            feature_width(parts.backbone, sample(replace(data, pool=data.test), network, spec, where="[task] data"))
        check_order(parts.backbone, groups, example)
        task = cls(
            spec=spec,
            data=data,
            network=network,
            parts=parts,
            groups=groups,
            features=features,
            example=example,
            weights=load_weights(spec.model, network, parts.backbone),
        )
        task._check_head()
        task._check_choices()
        task._check_own()
        if spec.source is not None:
            source = source_data(spec)
            feature_width(parts.backbone, sample(source, network, spec, where="[source] data"))
            if len(again := shared(source.pool, data.test)):
                raise TaskError(
                    f"[source] data: {len(again)} of its examples are test examples of [task]; give both a part, as "
                    "[0.0, 0.5] and [0.5, 1.0]."
                )
        return task

    @property
    def num_groups(self) -> int:
        return len(self.groups)

    @property
    def facts(self) -> dict[str, Any]:
        """What a study stores of its task: arguments of `search.study.create.create_studies`."""
        return {
            "num_groups": self.num_groups,
            "kind": self.data.kind,
            "groups": [group.name for group in self.groups],
            "data": self.data.fingerprint,
        }

    def with_weights(self, weights: dict[str, Tensor]) -> "Task":
        return replace(self, weights=weights, _template=[])

    def seed(self, repeat: int) -> int:
        """The seed of everything random in a repeat's trials, the same for all: head, batches, dropout."""
        return derive_seed(self.spec.search.seed, "chain", repeat)

    def split(self, *, repeat: int, size: int) -> tuple[Examples, Examples]:
        """Training and validation examples of that repeat at that size."""
        train, validation = self._order(repeat).split(size)
        return self.data.pool.subset(torch.from_numpy(train)), self.data.pool.subset(torch.from_numpy(validation))

    def added_by_size(self, *, repeat: int, size: int) -> list[tuple[slice, slice]]:
        """How both grew with the study's sizes: which of them, in their order, each size up to this one has added."""
        ends = [[len(part) for part in self._order(repeat).split(n)] for n in self.spec.task.sizes if n < size]
        both = [0, 0], *ends, [len(part) for part in self._order(repeat).split(size)]
        return [(slice(a, b), slice(c, d)) for (a, c), (b, d) in pairwise(both)]

    def _order(self, repeat: int) -> SubsetOrder:
        if repeat not in self._orders:
            labels = self.data.pool.targets.numpy()
            self._orders[repeat] = draw_order(labels, seed=self.spec.search.seed, repeat=repeat)
        return self._orders[repeat]

    def start(self, strategy: FreezingStrategy, *, repeat: int) -> tuple[nn.Module, nn.Module, LightningModule | None]:
        """A fresh backbone and head, as the strategy's trials in that repeat start from them.

        The third is the user's own module around both, where `[model]` names one.
        """
        bare = self.parts.head is None and self.parts.neck is None
        with seeded(self.seed(repeat)):
            linear = nn.Linear(self.features, self.data.outputs)
            if bare and strategy.pretrained and self.weights is not None and (copied := self._copied(self.weights)):
                return copied, linear, None
            parts = build(self.network, self.spec.model)
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
            parts = build(self.network, self.spec.model)
            _load(parts, weights)
            self._template.append(parts.backbone)
        try:
            return deepcopy(self._template[0])
        except RuntimeError:  # tensors that are made of parameters, as by `weight_norm`, can't be copied
            return None

    def trainable_parameters(self, strategy: FreezingStrategy) -> int:
        """How many parameters train by the end of a run: those of the head and what the strategy unfreezes."""
        trained = trained_parameters(self.groups, strategy, max_epochs=self.spec.train.epochs)
        backbone = sum(parameter.numel() for parameter in trained.values())
        brought = [part for part in (self.parts.head, self.parts.neck) if part is not None]
        linear = 0 if self.parts.head is not None else (self.features + 1) * self.data.outputs
        return backbone + linear + sum(parameter.numel() for part in brought for parameter in part.parameters())

    def _check_head(self) -> None:
        if self.parts.head is None:
            return
        whole = self.parts.module or nn.Sequential(self.parts.backbone, self.parts.head)
        whole.eval()
        try:
            with torch.no_grad():
                made = whole(self.example)
        except Exception as error:
            raise TaskError(
                f"[model] backbone: its head fails on the backbone's features: {one_line(error)}"
            ) from error
        expected = (len(made) if isinstance(made, Tensor) else 0, self.data.outputs)
        if not isinstance(made, Tensor) or tuple(made.shape) != expected:
            shape = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
            part = "forward" if self.parts.module else "head"
            raise TaskError(f"[model] backbone: its {part} must return outputs (N, {self.data.outputs}), got {shape}.")

    def _check_own(self) -> None:
        # A function of the user's own builds one network a trial: each new, and random where that is asked for.
        if ":" not in self.spec.model.backbone:
            return
        where = f"[model] backbone = {self.spec.model.backbone!r}"
        with seeded(self.seed(0)):
            other = build(self.network, self.spec.model)
        ours, theirs = _whole(self.parts), _whole(other)
        if set(ours.parameters()) & set(theirs.parameters()):
            raise TaskError(f"{where} returns the same module twice; it must build a new one at every call.")
        pairs = zip(self.parts.backbone.parameters(), other.backbone.parameters(), strict=False)
        kernels = [torch.equal(one, another) for one, another in pairs if one.ndim > 1]
        if self.spec.has_from_scratch and kernels and all(kernels):
            raise TaskError(
                f"{where} makes the same weights at every call, so none would start from scratch: let it make random "
                "ones and name the pretrained in [model] weights, or say [space] pretrained = true."
            )
        held = {p for part in (self.parts.backbone, self.parts.head) if part for p in part.parameters()}
        outside = [name for name, p in ours.named_parameters() if p.requires_grad and p not in held]
        if outside:
            raise TaskError(
                f"{where}: {', '.join(outside[:3])}: neither the backbone's nor the head's, so nothing would train "
                "them; put them into the head, or freeze them (requires_grad = False)."
            )

    def _check_choices(self) -> None:
        # Of what the space lets train, the backbone must have some.
        space = self.spec.space
        for choice, norms in product(ends(space.parameters), ends(space.batch_norm) or ["train"]):
            strategy = FreezingStrategy(freeze_depth=0, parameters=choice, batch_norm=norms)
            if not trained_parameters(self.groups, strategy):
                raise TaskError(
                    f"[space] parameters = {choice!r} with batch_norm = {norms!r} leaves the backbone nothing "
                    "to train; allowed: parameters = 'all'."
                )


def source_data(spec: StudySpec) -> TaskData:
    """The source task's data, not yet prepared for the network. Raises `TaskError`."""
    assert spec.source is not None
    data = load_data(spec.source.data, spec.source.options, where="[source] data")
    return rotations(data) if spec.source.labels == "rotation" else data


def _whole(parts: Parts) -> nn.Module:
    return parts.module or nn.ModuleList(part for part in (parts.backbone, parts.head) if part is not None)


def _load(parts: Parts, weights: dict[str, Tensor]) -> None:
    parts.backbone.load_state_dict({k: v for k, v in weights.items() if parts.neck is None or not _of_neck(k)})
    neck = {key.removeprefix("neck."): value for key, value in weights.items() if _of_neck(key)}
    if parts.neck is not None and neck:
        parts.neck.load_state_dict(neck)


def _of_neck(key: str) -> bool:
    return key.startswith("neck.")


def _shuffled(data: TaskData, *, seed: int) -> TaskData:
    # The control: labels that say nothing about the inputs, in the pool and in the test set.
    def shuffle(examples: Examples, part: str) -> Examples:
        generator = torch.Generator().manual_seed(derive_seed(seed, "shuffle", part))
        return Examples(examples.inputs, examples.targets[torch.randperm(len(examples), generator=generator)])

    return replace(data, pool=shuffle(data.pool, "pool"), test=shuffle(data.test, "test"))
