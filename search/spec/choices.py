"""What a study file may say of a field: a range to sample from, a list, or a constant."""

import math
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator


class Range(BaseModel):
    """A range to sample from, both ends included; `log` samples its logarithm evenly."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ValueError(f"low = {self.low} must be at most high = {self.high}, both finite")
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low} must be greater than 0 where log = true")
        return self


Choice = Range | list[bool] | list[int] | list[float] | bool | int | float
"""What a study samples a field from: a range, a list, or a constant."""

Words = list[str] | str
"""The same for a field that is one of a few words."""


def ends(choice: Choice | Words | None) -> list[Any]:
    """The values that bound a choice: a range's two, all of a list, or the constant."""
    if choice is None:
        return []
    if isinstance(choice, Range):
        return [choice.low, choice.high]
    return list(choice) if isinstance(choice, list) else [choice]
