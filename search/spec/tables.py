"""The tables of a study file: types, defaults and a docstring for each key."""

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from search.user_code import NAMED
from strategies import FreezingStrategy


class Table(BaseModel):
    """One table of a study file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class Range(Table):
    """A range to sample from, both ends included; `log` samples its logarithm evenly."""

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ValueError(f"low = {self.low} must be at most high = {self.high}, both finite")
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low} must be greater than 0 where log = true")
        return self


Choice = Range | list[bool] | list[int] | list[float] | bool | int | float
"""The values to sample a field from: a range, a list, or a constant."""

Words = list[str] | str
"""The words to sample a field from: a list, or a constant."""

Patterns = Annotated[list[str], Field(min_length=1)]


def ends(choice: Choice | Words | None) -> list[Any]:
    """Return a range's two ends, all values of a list, or the constant."""
    if choice is None:
        return []
    if isinstance(choice, Range):
        return [choice.low, choice.high]
    return list(choice) if isinstance(choice, list) else [choice]


def _check_distinct(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise ValueError("each value may appear once")
    return values


Size = Annotated[int, Field(ge=1, le=2**31 - 1)] | Literal["all"]
"""A number of labels, or all that there are."""


def sort_sizes(sizes: Iterable[Size]) -> list[Size]:
    """Return sizes in ascending order, "all" last."""
    return sorted(sizes, key=lambda size: math.inf if size == "all" else size)


def _check_gpus(value: float) -> float:
    if value > 1 and value != int(value):
        raise ValueError("more than one must be a whole number")
    return value


def _like(example: Any) -> Any:
    """Return a field whose default depends on the network; the starter file shows the example."""
    return Field(default=None, examples=[example])


Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Gigabytes = Annotated[float, Field(ge=0, le=1e6)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Channels = Annotated[list[Finite], Field(min_length=1)]
PixelRange = Annotated[list[Finite], Field(min_length=2, max_length=2)]
Sizes = Annotated[
    list[Size], Field(min_length=1, examples=[[50, 200]]), AfterValidator(_check_distinct), AfterValidator(sort_sizes)
]
MetricName = Literal["accuracy", "balanced_accuracy", "f1", "auroc", "average_precision", "loss", "mae", "rmse", "r2"]
"""The words of `search.verdict.metric.METRICS`."""
Options = dict[str, Any]
"""Keyword arguments of a loader or a builder, which checks them."""
TestSet = Annotated[float, Field(gt=0, lt=1)] | Annotated[str, Field(min_length=1)]
"""A share, a path, or "cv"."""

Views = Annotated[
    Count | Annotated[float, Field(ge=math.inf)],
    BeforeValidator(lambda value: math.inf if value == "inf" else value),
    PlainSerializer(lambda value: "inf" if value == math.inf else value, when_used="json"),
]
"""A count, or `inf`; JSON, which has no infinity, stores that as a word."""


class Task(Table):
    """The data to learn from, and how many of its labels."""

    data: str = Field(examples=["digits"])
    """A name, "torchvision/NAME", a folder of images, or a .npz, .csv, .tsv, .ts file.

    "package.module:attribute" is your own code, which runs; see studies/README.md.
    """
    options: Options = {}
    """The data's own, such as { text = "review", label = "stars" }."""
    pixel_range: PixelRange | None = _like([0, 4095])
    """Pixel values that become 0 and 1; default: [0, 255] of bytes, else measured."""
    sizes: Sizes
    """Labelled examples to train on; "all" is what there is."""
    test: TestSet | None = Field(default=None, examples=["cv"])
    """The judge: a share to hold out, the path of other data, or "cv", cross-validation.

    By default the data's own test set, else "cv" below 500 labels or 100 groups, else a fifth.
    """
    group_by: Annotated[str, Field(min_length=1)] | None = _like("patient")
    """Groups that stay together: a column, array, pattern over file names, or "package.module:function"."""
    metric: MetricName | None = _like("accuracy")
    """Steers and judges: or "balanced_accuracy", "f1", "auroc", "average_precision", "loss".

    Regression: "rmse" by default, "mae", "r2" or "loss".
    """
    shuffle_labels: bool = False
    """The control, if true: no strategy may win on labels that mean nothing."""

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        if "test" in self.options and not NAMED.fullmatch(self.data):  # the arguments of own code are its own
            raise ValueError("options = { test = ... } is now [task] test")
        return self


class Checkpoint(Table):
    """One module's weights out of a file."""

    checkpoint: str
    """The file."""
    module: str = ""
    """The module's name in the file ("encoder", "model.net"); "" takes the whole."""


class Model(Table):
    """The pretrained network."""

    backbone: str = Field(examples=["small_cnn"])
    """A torchvision classifier ("resnet18"), "timm/NAME" or "transformers/NAME".

    "small_cnn", "lenet", "lstm", or "package.module:function", which runs.
    """
    options: Options = {}
    """The backbone's own, such as { pooling = "cls" }."""
    weights: str | Checkpoint = "source"
    """Trained on [source] ("source"), "DEFAULT" or another name, a file, or "none".

    { checkpoint = "ae.ckpt", module = "encoder" } takes one module of a file.
    """
    groups: Annotated[list[str | Patterns], Field(min_length=1)] | None = _like(["stem.*", "layer1.*"])
    """Patterns over parameter names, one or several a group; see `python -m search groups`."""
    image_size: Count | None = _like(224)
    """Pixels a side; image_size, mean and std are by default those of its weights."""
    mean: Channels | None = _like([0.485, 0.456, 0.406])
    """The mean of each channel, which is subtracted."""
    std: Annotated[list[Positive], Field(min_length=1)] | None = _like([0.229, 0.224, 0.225])
    """The standard deviation of each channel, by which it is divided."""


class Source(Table):
    """The task that the backbone is trained on first; only with weights = "source"."""

    data: str = Field(examples=["digits-0-4"])
    """As in [task]."""
    options: Options = {}
    """As in [task]."""
    pixel_range: PixelRange | None = _like([0, 4095])
    """As in [task]."""
    labels: Literal["given", "rotation"] = "given"
    """The data's own, or "rotation": how far images were turned (Gidaris et al., 2018)."""
    epochs: Count = 20
    """Epochs of training."""
    steps_per_epoch: Count = 10
    """Optimizer steps an epoch."""
    lr: Positive = 1e-3
    """The learning rate of the whole network."""


class Train(Table):
    """The training of every trial."""

    epochs: Count = 20
    """Epochs of each trial."""
    steps_per_epoch: Count | Literal["pass"] = 10
    """Optimizer steps, the same at every size, or "pass" over the training examples."""
    batch_size: Count = 32
    """Examples a step."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or "sgd" with momentum 0.9."""
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    """Weight decay, but not of biases and norms."""
    augment: Annotated[list[Literal["crop", "flip"]], AfterValidator(_check_distinct)] = []
    """Random changes of images: "crop", "flip"."""
    views: Views = 8
    """Augmented views of an example that take turns, or inf: a new one every time."""
    precision: Literal["32-true", "auto"] = "32-true"
    """32-bit floats, or "auto": the fastest here of float32, bfloat16, NCHW, NHWC."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """A GPU if there is one, or "cpu", "gpu"."""
    threads: Count = 1
    """CPU threads of each worker."""
    timeout: Positive = 900.0
    """Seconds in which a trial must finish a batch; one that hangs is started again."""
    gpus: Annotated[float, Field(ge=0, le=1024), AfterValidator(_check_gpus)] = 0.0
    """GPUs of each trial with --engine ray: 0.5 puts two on one."""

    @property
    def steps(self) -> int | None:
        """Optimizer steps an epoch; None for a pass over the training data."""
        return None if self.steps_per_epoch == "pass" else self.steps_per_epoch


class Space(Table):
    """The strategies: a range, a list or a constant a key."""

    freeze_depth: Choice | None = _like({"low": 0, "high": 4})
    """Leading layer groups that never train; default: 0 to all."""
    unfreeze_epoch: Choice | None = _like({"low": 0, "high": 19})
    """First epoch of the others; default: 0 to epochs - 1."""
    backbone_lr_ratio: Choice | None = _like({"low": 0.03, "high": 1.0, "log": True})
    """The LR of the backbone's last group over the head's."""
    head_lr: Choice | None = _like({"low": 3e-4, "high": 3e-2, "log": True})
    """The head's LR."""
    epochs_per_group: Choice | None = _like([0, 1, 2])
    """Epochs from one unfreezing to the next, by epochs and groups; 0: all at once."""
    layer_lr_decay: Choice | None = _like(1.0)
    """Each group's LR over that of the group after it."""
    pretrained: Choice | None = _like([True, False])
    """Pretrained weights, or false: the from-scratch baselines."""
    lr_growth: Choice | None = _like(1.0)
    """LR growth an epoch from unfreezing; e.g. [1.0, 1.5, 2.0]."""
    warmup_steps: Choice | None = _like(0)
    """Steps of warm-up; e.g. { low = 0, high = 20 }."""
    scheduler: Words | None = _like("constant")
    """Fall of all LRs over the run: or "cosine", "linear"."""
    parameters: Words | None = _like("trainable")
    """Parameters that train of a group: or "all", "norm", "bias"."""
    batch_norm: Words | None = _like("train")
    """In unfrozen groups: or "frozen", as pretrained."""
    l2_sp: Choice | None = _like(0.0)
    """Pull to the pretrained weights; e.g. [0.0, 0.01]."""

    @model_validator(mode="after")
    def _check_values(self) -> Self:
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
    """The search at each size."""

    trials: Count = 30
    """Trials at each size."""
    sampler: Literal["tpe", "random"] = "tpe"
    """Optuna's TPE, or "random"."""
    pruner: Literal["percentile", "median", "none"] = "percentile"
    """The rule that ends trials early: keep the best 70 %; or "median", "none"."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """The seed of draws, weights and sampler."""


class Confirm(Table):
    """The decision about the winner."""

    repeats: Annotated[int, Field(ge=0)] = 10
    """Fresh draws of the examples; at least 5 are needed to rule anything out."""
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Score difference of no consequence: 0.01 is a point of accuracy, 1 % of errors."""


class Activations(Table):
    """The cache of the frozen layers' outputs."""

    memory: Gigabytes = 1.0
    """GB in each worker's memory."""
    disk: Gigabytes = 10.0
    """GB in the study's folder; both 0: nothing is kept."""
    dtype: Literal["float32", "float16"] = "float32"
    """Its type, or "float16": half the bytes; losses change from the fifth digit on."""
