"""The tables of a study file: types, defaults and a docstring for each key."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from search.spec.values import (
    Channels,
    Choice,
    ClassWeight,
    Count,
    Gigabytes,
    MetricName,
    Options,
    Patterns,
    PixelRange,
    Positive,
    Sizes,
    Table,
    TestSet,
    Views,
    Words,
    check_distinct,
    check_gpus,
    ends,
    like,
)
from search.user_code import NAMED
from strategies import FreezingStrategy


class Task(Table):
    """The data to learn from, and how many of its labels."""

    data: str = Field(examples=["digits"])
    """A name, "torchvision/NAME", a folder of images, or a .npz, .csv, .tsv, .ts file.

    "package.module:attribute" is your own code, which runs; see studies/README.md.
    """
    options: Options = Field(default={})
    """The data's own, such as { text = "review", label = "stars" }."""
    pixel_range: PixelRange | None = like([0, 4095])
    """Pixel values that become 0 and 1; default: [0, 255] of bytes, else measured."""
    sizes: Sizes
    """Labelled examples to train on; "all" is what there is."""
    test: TestSet | None = Field(default=None, examples=["cv"])
    """The judge: a share to hold out, the path of other data, or "cv", cross-validation.

    By default the data's own test set, else "cv" below 1,000 labels or 100 groups, else a fifth.
    """
    group_by: Annotated[str, Field(min_length=1)] | None = like("patient")
    """Groups that stay together: a column, array, pattern over file names, or "package.module:function"."""
    metric: MetricName | None = like("accuracy")
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
    options: Options = Field(default={})
    """The backbone's own, such as { pooling = "cls" }."""
    weights: str | Checkpoint = "source"
    """Trained on [source] ("source"), "DEFAULT" or another name, a file, or "none".

    { checkpoint = "ae.ckpt", module = "encoder" } takes one module of a file.
    """
    groups: Annotated[list[str | Patterns], Field(min_length=1)] | None = like(["stem.*", "layer1.*"])
    """Patterns over parameter names, one or several a group; see `python -m search groups`."""
    image_size: Count | None = like(224)
    """Pixels a side; image_size, mean and std are by default those of its weights."""
    mean: Channels | None = like([0.485, 0.456, 0.406])
    """The mean of each channel, which is subtracted."""
    std: Annotated[list[Positive], Field(min_length=1)] | None = like([0.229, 0.224, 0.225])
    """The standard deviation of each channel, by which it is divided."""


class Source(Table):
    """The task that the backbone is trained on first; only with weights = "source"."""

    data: str = Field(examples=["digits-0-4"])
    """As in [task]."""
    options: Options = Field(default={})
    """As in [task]."""
    pixel_range: PixelRange | None = like([0, 4095])
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
    class_weight: ClassWeight | None = Field(default=None, examples=["balanced"])
    """The classes' weights in the loss: "balanced", or { rare = 5.0 }."""
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    """Weight decay, but not of biases and norms."""
    augment: Annotated[list[Literal["crop", "flip"]], AfterValidator(check_distinct)] = Field(default=[])
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
    gpus: Annotated[float, Field(ge=0, le=1024), AfterValidator(check_gpus)] = 0.0
    """GPUs of each trial with --engine ray: 0.5 puts two on one."""

    @property
    def steps(self) -> int | None:
        """Optimizer steps an epoch; None for a pass over the training data."""
        return None if self.steps_per_epoch == "pass" else self.steps_per_epoch


class Space(Table):
    """The strategies: a range, a list or a constant a key."""

    freeze_depth: Choice | None = like({"low": 0, "high": 4})
    """Leading layer groups that never train; default: 0 to all."""
    unfreeze_epoch: Choice | None = like({"low": 0, "high": 19})
    """First epoch of the others; default: 0 to epochs - 1."""
    backbone_lr_ratio: Choice | None = like({"low": 0.03, "high": 1.0, "log": True})
    """The LR of the backbone's last group over the head's."""
    head_lr: Choice | None = like({"low": 3e-4, "high": 3e-2, "log": True})
    """The head's LR."""
    epochs_per_group: Choice | None = like([0, 1, 2])
    """Epochs from one unfreezing to the next, by epochs and groups; 0: all at once."""
    layer_lr_decay: Choice | None = like(1.0)
    """Each group's LR over that of the group after it."""
    pretrained: Choice | None = like([True, False])
    """Pretrained weights, or false: the from-scratch baselines."""
    lr_growth: Choice | None = like(1.0)
    """LR growth an epoch from unfreezing; e.g. [1.0, 1.5, 2.0]."""
    warmup_steps: Choice | None = like(0)
    """Steps of warm-up; e.g. { low = 0, high = 20 }."""
    scheduler: Words | None = like("constant")
    """Fall of all LRs over the run: or "cosine", "linear"."""
    parameters: Words | None = like("trainable")
    """Parameters that train of a group: or "all", "norm", "bias"."""
    batch_norm: Words | None = like("train")
    """In unfrozen groups: or "frozen", as pretrained."""
    l2_sp: Choice | None = like(0.0)
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

    trials: Count = 20
    """Trials at each size."""
    sampler: Literal["tpe", "random"] = "tpe"
    """Optuna's TPE, or "random"."""
    pruner: Literal["percentile", "median", "none"] = "percentile"
    """The rule that ends trials early: keep the best 70 %; or "median", "none"."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """The seed of draws, weights and sampler."""


class Confirm(Table):
    """The decision about the winner."""

    repeats: Annotated[int, Field(ge=0)] = 8
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
