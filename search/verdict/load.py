"""Studies in the database as plain values; no torch."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial

from search.errors import StudyError
from search.spec.study_spec import NAME, StudySpec
from search.storage.database import connected
from search.storage.location import StudyLocation
from search.storage.records import Drawn, StudyAttributes, TrialAttributes, name_of, reading, size_of
from search.storage.url import Database
from search.verdict.metric import METRICS, Metric, metric_of
from search.verdict.predictions import with_example_scores
from search.verdict.results import Results
from search.verdict.rows import Row
from strategies import FreezingStrategy


def stored_spec(storage: BaseStorage, location: StudyLocation) -> StudySpec | None:
    """Return a study's spec with its last budgets; None if it is not stored."""
    studies = _studies(storage, location)
    return _spec_of(*next(iter(studies.items()))) if studies else None


def stored_attributes(storage: BaseStorage, location: StudyLocation) -> StudyAttributes | None:
    """Return a study's attributes, which name its labels; None if it is not stored."""
    for name, study in _studies(storage, location).items():
        return StudyAttributes.of(study.user_attrs, where=f"The stored study {name!r}")
    return None


def read_results(storage: BaseStorage, location: StudyLocation) -> Results:
    """Read a study from its database alone, without the example scores in its folder.

    Raises `StudyError` where the database has no study of that name, or a broken one.
    """
    studies = _studies(storage, location)
    if not studies:
        names = ", ".join(known(storage)) or "none"
        raise StudyError(f"There is no study {location.name!r} in this storage; known: {names}.")
    name, first = next(iter(studies.items()))
    spec, stored = _spec_of(name, first), StudyAttributes.of(first.user_attrs, where=f"The stored study {name!r}")
    metric = metric_of(spec.task.metric, stored.kind, own=stored.own_metric)
    rows = [
        row
        for name, study in studies.items()
        for row in rows_of(
            _trials(storage, name, study), spec, location, num_groups=stored.num_groups, size=size_of(name),
            metric=metric,
        )
    ]  # fmt: skip
    now = Results(
        location=location, spec=spec, num_groups=stored.num_groups, rows=tuple(rows), kind=stored.kind,
        own_metric=stored.own_metric, groups=tuple(stored.groups), flops=tuple(stored.flops),
        baselines=_strategies(stored.baselines, stored, spec, name=name),
        portfolio=_strategies(stored.portfolio, stored, spec, name=name),
    )  # fmt: skip
    # Each extension stores the budgets until then.
    specs = [spec.changed(search={"trials": e.trials}, confirm={"repeats": e.repeats}) for e in stored.extensions]
    *earlier, newest = [
        replace(
            now, spec=then, **_labels(drawn), extension=number,
            rows=tuple(row for row in rows if row.extension <= number and (row.extension == number or not row.judged)),
        )
        for number, (drawn, then) in enumerate(zip([stored, *stored.extensions], [*specs, spec], strict=True))
    ]  # fmt: skip
    former = {one.all for one in earlier} - {*map(newest.size, spec.task.sizes)}  # that was "all" before
    rows = [row for row in newest.rows if row.size not in former]
    planned = replace(newest, plan=stored.budget).planned(spec)
    return replace(planned, rows=tuple(rows), earlier=tuple(earlier))


def _labels(drawn: Drawn) -> dict[str, Any]:
    return {**drawn.model_dump(include={"labels", "all", "cross_validated"}), "unexplored": frozenset(drawn.unexplored)}


def _strategies(
    every: Iterable[dict[str, Any]], stored: StudyAttributes, spec: StudySpec, *, name: str
) -> tuple[FreezingStrategy, ...]:
    with reading(f"The stored study {name!r}"):
        return tuple(spec.strategy(params, num_groups=stored.num_groups) for params in every)


def load_results(location: StudyLocation) -> Results:
    """Read a study from its database and its folder. Raises `StudyError` where there is none."""
    with connected(location.database) as storage:
        if storage is None:
            raise StudyError(f"There is no study {location.name!r}: nothing is stored at {location.database.shown}.")
        return with_example_scores(read_results(storage, location))


def rows_of(
    trials: Iterable[FrozenTrial],
    spec: StudySpec,
    location: StudyLocation,
    *,
    num_groups: int,
    size: int | None,
    metric: Metric,
) -> list[Row]:
    """Return trials of one Optuna study as rows; confirm trials (`size` None) store their size.

    metric: the study's.
    """
    rows = (_row(trial, spec, num_groups, size=size, location=location, metric=metric) for trial in trials)
    return [row for row in rows if row is not None]


def known(storage: BaseStorage) -> list[str]:
    """Return the names of Frostline's studies in a database."""
    return sorted({name for name, _ in _named_studies(storage)})


def list_studies(*, out: Path, storage: str | None) -> list[StudyLocation]:
    """Return the locations of all studies under `out`, or in the database `storage`."""
    if storage is not None:
        with connected(Database.parse(storage)) as opened:
            names = [] if opened is None else known(opened)
    else:
        names = sorted(file.parent.name for file in out.glob("*/study.db") if NAME.fullmatch(file.parent.name))
    return [StudyLocation.of(name, out=out, storage=storage) for name in names]


def _named_studies(storage: BaseStorage) -> list[tuple[str, FrozenStudy]]:
    """Return the Optuna studies that Frostline wrote, each with its Frostline study's name."""
    with reading("The list of studies"):
        every = storage.get_all_studies()
    named = ((name_of(study.study_name), study) for study in every if "spec" in study.user_attrs)
    return [(name, study) for name, study in named if name is not None]


def _studies(storage: BaseStorage, location: StudyLocation) -> dict[str, FrozenStudy]:
    found = {study.study_name: study for name, study in _named_studies(storage) if name == location.name}
    return dict(sorted(found.items(), key=lambda item: (size_of(item[0]) or 0, item[0])))


def _spec_of(name: str, study: FrozenStudy) -> StudySpec:
    where = f"The stored study {name!r}"
    return StudySpec.from_dict(StudyAttributes.of(study.user_attrs, where=where).spec, where=where)


def _trials(storage: BaseStorage, name: str, study: FrozenStudy) -> list[FrozenTrial]:
    with reading(f"The stored study {name!r}"):
        return storage.get_all_trials(study._study_id, deepcopy=False)


def _row(
    trial: FrozenTrial, spec: StudySpec, num_groups: int, *, size: int | None, location: StudyLocation, metric: Metric
) -> Row | None:
    where = f"Trial {trial.number} of the study {location.name!r}" + (f" at {size} labels" if size else "")
    stored = TrialAttributes.of(trial.user_attrs, where=where)
    with reading(where):
        params = trial.params or trial.system_attrs.get("fixed_params", {})
        if "freeze_depth" not in params:
            return None  # claimed a moment ago: not one parameter is sampled yet
        strategy = spec.strategy(params, num_groups=num_groups)
        value = trial.value
    known_size = size or stored.size
    if known_size is None:
        raise StudyError(f"{where} was not written by Frostline: size is missing.")
    return Row(
        **{**stored.model_dump(), "size": known_size}, judged=size is None,
        scores=_scores(trial.user_attrs, metric=metric, where=where),
        number=trial.number, state=trial.state.name, strategy=strategy, family=str(strategy.family(num_groups)),
        value=value, curve=tuple(sorted(trial.intermediate_values.items())),
        ended=trial.datetime_complete,  # processes that write them keep their clocks at UTC
    )  # fmt: skip


def _scores(attributes: Mapping[str, Any], *, metric: Metric, where: str) -> dict[str, float]:
    """Return the stored scores by name, checked. Raises `StudyError`."""
    scores = {}
    for known in {**METRICS, metric.name: metric}.values():
        for name in (known.validated, known.attribute):
            if name not in attributes:
                continue
            value = attributes[name]
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not known.allows(value):
                raise StudyError(
                    f"{where} was not written by Frostline: attribute {name} = {value!r:.200}: must be a number from "
                    f"{known.lowest:g} to {known.highest:g}."
                )
            scores[name] = float(value)
    return scores
