"""A study's task, loaded and checked: examples by (chain, size), and models by (strategy, chain)."""

from copy import deepcopy
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn

from search.errors import SpecError, TaskError
from search.spec import StudySpec, ends
from search.tasks.data import Examples, TaskData, load_data
from search.tasks.models import build_backbone, feature_width
from search.tasks.subsets import Chain, check_sizes, draw_chain
from strategies import FreezingStrategy, layer_groups


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What a trial needs to know: the data, the network, and the pretrained weights once they are there."""

    spec: StudySpec
    data: TaskData
    group_parameters: tuple[int, ...]  # of each layer group, input side first
    features: int
    weights: dict[str, Tensor] | None = None
    _chains: dict[int, Chain] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, spec: StudySpec) -> "Task":
        """Load the data and the backbone that a study file names, and check them; nothing is written.

        Raises `TaskError`, or `SpecError` where the space asks for more groups than the backbone has.
        """
        if spec.train.accelerator == "gpu" and not torch.accelerator.is_available():
            raise TaskError("[train] accelerator = 'gpu': there is none on this machine; allowed: auto, cpu.")
        data = load_data(spec.task.data, where="[task] data")
        if len(data.test) == 0:
            raise TaskError(f"[task] data = {spec.task.data!r} has no test set, so no winner could be confirmed.")
        if spec.task.shuffle_labels:
            data = _shuffled(data, seed=spec.search.seed)
        check_sizes(data.pool.targets.numpy(), spec.task.sizes, num_classes=len(data.classes))
        backbone = build_backbone(spec.model.backbone)
        try:
            groups = layer_groups(backbone)
        except ValueError as error:
            raise TaskError(f"[model] backbone = {spec.model.backbone!r}: {error}") from None
        for depth in ends(spec.space.freeze_depth):
            if depth > len(groups):
                raise SpecError(
                    f"[space] freeze_depth = {depth} is beyond the backbone's layer groups; "
                    f"allowed: 0 to {len(groups)}."
                )
        features = feature_width(backbone, data.pool.inputs[:2])
        if spec.source is not None:
            feature_width(backbone, load_data(spec.source.data, where="[source] data").pool.inputs[:2])
        weights = None
        if spec.model.weights not in ("source", "none"):
            weights = load_weights(spec.model.weights, backbone)
        sizes = tuple(sum(parameter.numel() for parameter in group.parameters) for group in groups)
        return cls(spec=spec, data=data, group_parameters=sizes, features=features, weights=weights)

    @property
    def num_groups(self) -> int:
        return len(self.group_parameters)

    def trainable_parameters(self, strategy: FreezingStrategy) -> int:
        """How many parameters train by the end of a run: those of the head and of the groups that thaw."""
        epochs = self.spec.train.epochs
        frozen = strategy.schedule(self.num_groups, epochs).frozen_prefix(epochs)
        return sum(self.group_parameters[frozen:]) + (self.features + 1) * len(self.data.classes)

    def with_weights(self, weights: dict[str, Tensor]) -> "Task":
        return replace(self, weights=weights)

    def seed(self, chain: int) -> int:
        """The seed of everything random in a chain's trials, the same for all: head, batches, dropout."""
        return derive_seed(self.spec.search.seed, "chain", chain)

    def split(self, *, chain: int, size: int) -> tuple[Examples, Examples]:
        """Training and validation examples of that chain at that size."""
        if chain not in self._chains:
            labels = self.data.pool.targets.numpy()
            self._chains[chain] = draw_chain(labels, seed=self.spec.search.seed, chain=chain)
        train, validation = self._chains[chain].split(size)
        return self.data.pool.subset(torch.from_numpy(train)), self.data.pool.subset(torch.from_numpy(validation))

    def parts(self, strategy: FreezingStrategy, *, chain: int) -> tuple[nn.Module, nn.Module]:
        """A fresh backbone and head, as the strategy's trials in that chain start from them."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed(chain))
            head = nn.Linear(self.features, len(self.data.classes))
            backbone = build_backbone(self.spec.model.backbone)
        if strategy.pretrained and self.weights is not None:
            backbone.load_state_dict(self.weights)
        return backbone, head


def load_weights(file: Any, backbone: nn.Module) -> dict[str, Tensor]:
    """A backbone's state dict from a file, checked against it; never runs code. Raises `TaskError`."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        deepcopy(backbone).load_state_dict(state)
    except FileNotFoundError:
        raise TaskError(f'[model] weights = {str(file)!r}: there is no such file; or "source", or "none".') from None
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise TaskError(f"[model] weights = {str(file)!r} do not fit the backbone: {reason}") from error
    return state  # type: ignore[no-any-return]


def derive_seed(*parts: Any) -> int:
    """A seed of 31 bits from whatever tells one random stream from another."""
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest()) % 2**31


def _shuffled(data: TaskData, *, seed: int) -> TaskData:
    # The control: labels that say nothing about the inputs, in the pool and in the test set.
    def shuffle(examples: Examples, part: str) -> Examples:
        generator = torch.Generator().manual_seed(derive_seed(seed, "shuffle", part))
        return Examples(examples.inputs, examples.targets[torch.randperm(len(examples), generator=generator)])

    return replace(data, pool=shuffle(data.pool, "pool"), test=shuffle(data.test, "test"))
