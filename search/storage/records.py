"""Stored attributes of a study and its trials, checked as they are read.

Anybody may have written the database, so nothing stored is evaluated, imported or used as a path.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from search.errors import MAX_MESSAGE_CHARACTERS, StudyError, printable
from search.spec.study_spec import NAME
from search.spec.values import Count

Natural = Annotated[int, Field(ge=0, le=2**63 - 1)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
Text = Annotated[str, AfterValidator(lambda text: printable(text[:MAX_MESSAGE_CHARACTERS]))]


class _Attributes(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)

    @classmethod
    def of(cls, attributes: dict[str, Any], *, where: str) -> Self:
        """Check these attributes; others are ignored. Raises `StudyError`, which names `where` they are stored."""
        try:
            return cls.model_validate(attributes)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            wrong = f"attribute {place} = {first['input']!r:.200}: {first['msg']}"
            raise StudyError(f"{where} was not written by Frostline: {wrong}.") from None


class Drawn(BaseModel):
    """The labels that repeats draw from, as in `Results`; data: their digest."""

    model_config = ConfigDict(strict=True, frozen=True)

    data: Text = ""
    labels: Natural = 0
    all: Natural = 0
    cross_validated: bool = False
    unexplored: Annotated[list[Count], Field(max_length=10_000)] = []


class Extension(Drawn):
    """Labels to draw from after others were added; trials, repeats: the budgets until then."""

    trials: Count
    repeats: Natural


class StudyAttributes(_Attributes, Drawn):
    """The attributes that each Optuna study of a study stores.

    extensions: of the labels, in order; only the study that confirms has them.
    plan: exploring trials and repeats for which a run's time limit leaves room; there, too.
    """

    spec: dict[str, Any]
    num_groups: Annotated[int, Field(ge=1, le=10_000)]
    kind: Literal["classification", "regression"] = "classification"
    own_metric: bool = False
    groups: list[Text] = []
    flops: Annotated[list[Natural], Field(max_length=10_001)] = []
    baselines: Annotated[list[dict[str, Any]], Field(max_length=100)] = []
    portfolio: Annotated[list[dict[str, Any]], Field(max_length=100)] = []
    extensions: Annotated[list[Extension], Field(max_length=1000)] = []
    plan: Annotated[list[Count], Field(min_length=2, max_length=2)] | None = None

    @property
    def budget(self) -> tuple[int, int] | None:
        """The plan as a pair."""
        return None if self.plan is None else (self.plan[0], self.plan[1])

    @property
    def drawn(self) -> Drawn:
        """The labels that new repeats draw from."""
        return self.extensions[-1] if self.extensions else self


class TrialAttributes(_Attributes):
    """The attributes that a trial stores; only a confirm trial stores its `size`."""

    size: Count | None = None
    repeat: Natural = 0
    extension: Natural = 0
    epochs: Natural | None = None
    seconds: Seconds | None = None
    trainable_parameters: Natural | None = None
    seed: Natural | None = None
    baseline: bool = False
    warm_started_from: Count | None = None
    source_trial: Natural | None = None
    raced_with: Annotated[list[Count], Field(max_length=10_000)] = []
    test_se: float | None = None
    test_examples: Count | None = None
    test_trivial: Annotated[float, Field(allow_inf_nan=False)] | None = None
    reason: Text | None = None
    predictions_file: str | None = None


_STUDY = re.compile(rf"(?P<name>{NAME.pattern})/(?:confirm|n=(?P<size>[1-9][0-9]{{0,8}}))")


def name_of(study_name: str) -> str | None:
    """Return the study to which an Optuna study belongs; None if it is not Frostline's."""
    match = _STUDY.fullmatch(study_name)
    return match["name"] if match else None


def size_of(study_name: str) -> int | None:
    """Return the size that an Optuna study explores; None if it confirms."""
    match = _STUDY.fullmatch(study_name)
    return int(match["size"]) if match and match["size"] else None


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn Optuna's errors on values that others wrote into a `StudyError` that names `where`."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise StudyError(f"{where} can't be read: {type(error).__name__}: {error}") from error
