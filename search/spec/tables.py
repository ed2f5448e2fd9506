"""The tables of a study file: their keys, the types, what is allowed, and the defaults."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from search.spec.choices import Choice, Words, ends
from strategies import FreezingStrategy


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Gigabytes = Annotated[float, Field(ge=0, le=1e6)]
Channels = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=1)]
Options = dict[str, Any]
"""Keyword arguments of a loader or a builder, which checks them."""


def _distinct(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise ValueError("each may stand there once")
    return values


def _share_or_whole(value: float) -> float:
    if value > 1 and value != int(value):
        raise ValueError("more than one must be a whole number")
    return value


def _endless(value: Any) -> Any:
    return math.inf if value == "inf" else value


Views = Annotated[
    Count | Annotated[float, Field(ge=math.inf)],
    BeforeValidator(_endless),
    PlainSerializer(lambda value: "inf" if value == math.inf else value, when_used="json"),
]
"""A count, or `inf`; JSON, which has no infinity, stores that as a word."""


class Task(Table):
    """What is learned: data by name, folder, file or "package.module:attribute", with its loader's options."""

    data: str
    options: Options = {}
    sizes: Annotated[list[Count], Field(min_length=1), AfterValidator(_distinct), AfterValidator(sorted)]
    metric: Literal["val_loss", "val_accuracy"] = "val_loss"
    shuffle_labels: bool = False

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        return "minimize" if self.metric == "val_loss" else "maximize"


class Checkpoint(Table):
    """One module's weights out of a file: `module` is its name there ("encoder", "model.net"), "" the whole."""

    checkpoint: str
    module: str = ""


class Model(Table):
    """The pretrained network, with its builder's options.

    weights: "source" (trained on `[source]`), "none", "DEFAULT" or another name that the backbone's library knows,
        a file, or a module of a checkpoint.
    groups: glob patterns over parameter names, one a layer group, instead of Frostline's own.
    image_size, mean, std: how it sees images; by default as its weights were trained.
    """

    backbone: str
    options: Options = {}
    weights: str | Checkpoint = "source"
    groups: Annotated[list[str], Field(min_length=1)] | None = None
    image_size: Count | None = None
    mean: Channels | None = None
    std: Annotated[list[Positive], Field(min_length=1)] | None = None


class Source(Table):
    """The task the backbone is trained on first, where the weights come from one of our own.

    labels: "given", or "rotation": how far each image was turned, which needs no labels (Gidaris et al., 2018).
    """

    data: str
    options: Options = {}
    labels: Literal["given", "rotation"] = "given"
    epochs: Count = 20
    steps_per_epoch: Count = 10
    lr: Positive = 1e-3


class Train(Table):
    """How every trial is trained; an epoch is a fixed number of steps, the same at every size, or a "pass".

    views: so many augmented views of an example take turns, the same ones in every trial, so that what frozen layers
        make of them is computed once; `inf` shows a new one every time, and computes it every time.
    precision: of what is trained: "32-true", or "auto": what trains this network fastest here (see
        `search.training.precision`).
    timeout: seconds in which a trial must finish something, a batch or more; one that hangs is begun again.
    gpus: of each trial under Ray, which takes `threads` CPUs too; a share, as 0.5, where several fit on one.
    """

    epochs: Count = 20
    steps_per_epoch: Count | Literal["pass"] = 10
    batch_size: Count = 32
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    augment: Annotated[list[Literal["crop", "flip"]], AfterValidator(_distinct)] = []
    views: Views = 8
    precision: Literal["32-true", "auto"] = "32-true"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    threads: Count = 1
    timeout: Positive = 900.0
    gpus: Annotated[float, Field(ge=0, le=1024), AfterValidator(_share_or_whole)] = 0.0

    @property
    def steps(self) -> int | None:
        """Optimizer steps an epoch; None for a pass over the training data."""
        return None if self.steps_per_epoch == "pass" else self.steps_per_epoch


class Space(Table):
    """What each field of a strategy is sampled from; a field left out takes Frostline's default."""

    freeze_depth: Choice | None = None
    unfreeze_epoch: Choice | None = None
    backbone_lr_ratio: Choice | None = None
    head_lr: Choice | None = None
    epochs_per_group: Choice | None = None
    layer_lr_decay: Choice | None = None
    pretrained: Choice | None = None
    lr_growth: Choice | None = None
    warmup_steps: Choice | None = None
    scheduler: Words | None = None
    parameters: Words | None = None
    batch_norm: Words | None = None
    l2_sp: Choice | None = None

    @model_validator(mode="after")
    def _each_value_is_one(self) -> Self:
        for name in type(self).model_fields:
            choice = getattr(self, name)
            if isinstance(choice, list) and (not choice or len(set(choice)) < len(choice)):
                raise ValueError(f"{name} = {choice!r}: a list names at least one value, and each once")
            for value in ends(choice):
                try:
                    FreezingStrategy.from_params({"freeze_depth": 0, name: value})
                except (TypeError, ValueError) as error:
                    raise ValueError(f"{name} = {value!r}: {error}") from None
        return self


class Search(Table):
    """How the space is searched, at each size."""

    trials: Count = 30
    sampler: Literal["tpe", "random"] = "tpe"
    pruner: Literal["percentile", "median", "none"] = "percentile"
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0


class Confirm(Table):
    """How a winner is decided: fresh repeats, and the margin of practical equivalence in score (0.01 = 1 point)."""

    repeats: Annotated[int, Field(ge=0)] = 10
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.01


class Activations(Table):
    """Where the output of frozen layers is kept: at most so many GB in each worker's memory, and in the study's folder.

    dtype: "float16" keeps twice as many, at the price of equality: a linear probe's loss moves by some 4e-5.
    """

    memory: Gigabytes = 1.0
    disk: Gigabytes = 10.0
    dtype: Literal["float32", "float16"] = "float32"
