"""Values of a study file's keys: their types, and what to sample a field from."""

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator


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


def check_distinct(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise ValueError("each value may appear once")
    return values


Size = Annotated[int, Field(ge=1, le=2**31 - 1)] | Literal["all"]
"""A number of labels, or all that there are."""


def sort_sizes(sizes: Iterable[Size]) -> list[Size]:
    """Return sizes in ascending order, "all" last."""
    return sorted(sizes, key=lambda size: math.inf if size == "all" else size)


def check_gpus(value: float) -> float:
    if value > 1 and value != int(value):
        raise ValueError("more than one must be a whole number")
    return value


def like(example: Any) -> Any:
    """Return a field whose default depends on the network; the starter file shows the example."""
    return Field(default=None, examples=[example])


Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Gigabytes = Annotated[float, Field(ge=0, le=1e6)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Channels = Annotated[list[Finite], Field(min_length=1)]
PixelRange = Annotated[list[Finite], Field(min_length=2, max_length=2)]
Sizes = Annotated[
    list[Size], Field(min_length=1, examples=[[50, 200]]), AfterValidator(check_distinct), AfterValidator(sort_sizes)
]
MetricName = Literal["accuracy", "balanced_accuracy", "f1", "auroc", "average_precision", "loss", "mae", "rmse", "r2"]
"""The words of `search.verdict.metric.METRICS`."""
Options = dict[str, Any]
"""Keyword arguments of a loader or a builder, which checks them."""

Views = Annotated[
    Count | Annotated[float, Field(ge=math.inf)],
    BeforeValidator(lambda value: math.inf if value == "inf" else value),
    PlainSerializer(lambda value: "inf" if value == math.inf else value, when_used="json"),
]
"""A count, or `inf`; JSON, which has no infinity, stores that as a word."""

TestSet = Annotated[float, Field(gt=0, lt=1)] | Annotated[str, Field(min_length=1)]
"""A share, a path, or "cv"."""

ClassWeight = Literal["balanced"] | Annotated[dict[str, Positive], Field(min_length=1)]
"""By frequency, or by name; classes that are not named weigh 1."""
