"""Studies in the database as plain rows; no torch."""

from collections.abc import Iterable
from pathlib import Path

from optuna.storages import BaseStorage
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial

from search.errors import StudyError
from search.spec.study_spec import NAME, StudySpec
from search.storage.database import connected
from search.storage.location import StudyLocation
from search.storage.records import StudyAttributes, TrialAttributes, name_of, reading, size_of
from search.storage.url import database_url, shown
from search.verdict.predictions import read_example_scores
from search.verdict.rows import Results, Row
from strategies import FreezingStrategy


def stored_spec(storage: BaseStorage, location: StudyLocation) -> StudySpec | None:
    """The spec that a study was started with, with its budgets as they last were; None if it is not stored."""
    studies = _studies(storage, location)
    return _spec_of(*next(iter(studies.items()))) if studies else None


def read_results(storage: BaseStorage, location: StudyLocation, *, with_predictions: bool = True) -> Results:
    """Read a study. Raises `StudyError` where the database has none of that name, or a broken one."""
    studies = _studies(storage, location)
    if not studies:
        names = ", ".join(known(storage)) or "none"
        raise StudyError(f"There is no study {location.name!r} in this storage; known: {names}.")
    name, first = next(iter(studies.items()))
    spec, stored = _spec_of(name, first), StudyAttributes.of(first.user_attrs, where=f"The stored study {name!r}")
    rows = [
        row
        for name, study in studies.items()
        for row in rows_of(
            _trials(storage, name, study),
            spec,
            location,
            num_groups=stored.num_groups,
            size=size_of(name),
            with_predictions=with_predictions,
        )
    ]
    return Results(
        location=location,
        spec=spec,
        num_groups=stored.num_groups,
        rows=tuple(rows),
        kind=stored.kind,
        groups=tuple(stored.groups),
    )


def rows_of(
    trials: Iterable[FrozenTrial],
    spec: StudySpec,
    location: StudyLocation,
    *,
    num_groups: int,
    size: int | None,
    with_predictions: bool = False,
) -> list[Row]:
    """One study's trials as rows; `size` is None for confirm trials, which know their own."""
    rows = (
        _row(trial, spec, num_groups, size=size, location=location, with_predictions=with_predictions)
        for trial in trials
    )
    return [row for row in rows if row is not None]


def known(storage: BaseStorage) -> list[str]:
    """The names of Frostline's studies in a database."""
    return sorted({name for name, _ in _all_ours(storage)})


def load_results(location: StudyLocation, *, with_predictions: bool = True) -> Results:
    """Read a stored study. Raises `StudyError` where there is none."""
    with connected(location.url) as storage:
        if storage is None:
            raise StudyError(f"There is no study {location.name!r}: nothing is stored at {shown(location.url)}.")
        return read_results(storage, location, with_predictions=with_predictions)


def list_studies(*, out: Path, storage: str | None) -> list[StudyLocation]:
    """The places of all studies under `out`, or in the database `storage`."""
    if storage is not None:
        url = database_url(storage)
        with connected(url) as database:
            names = [] if database is None else known(database)
    else:
        names = sorted(file.parent.name for file in out.glob("*/study.db") if NAME.fullmatch(file.parent.name))
    return [StudyLocation.of(name, out=out, storage=storage) for name in names]


def _all_ours(storage: BaseStorage) -> list[tuple[str, FrozenStudy]]:
    """Optuna's studies that are parts of ours, each with the name of ours."""
    with reading("The list of studies"):
        every = storage.get_all_studies()
    named = ((name_of(study.study_name), study) for study in every if "spec" in study.user_attrs)
    return [(name, study) for name, study in named if name is not None]


def _studies(storage: BaseStorage, location: StudyLocation) -> dict[str, FrozenStudy]:
    ours = {study.study_name: study for name, study in _all_ours(storage) if name == location.name}
    return dict(sorted(ours.items(), key=lambda item: (size_of(item[0]) or 0, item[0])))


def _spec_of(name: str, study: FrozenStudy) -> StudySpec:
    where = f"The stored study {name!r}"
    content = StudyAttributes.of(study.user_attrs, where=where).spec
    train = content.get("train")
    if isinstance(train, dict) and train.get("augment"):  # before there were `views`, each picture was a new one
        train.setdefault("views", "inf")
    return StudySpec.from_dict(content, where=where)


def _trials(storage: BaseStorage, name: str, study: FrozenStudy) -> list[FrozenTrial]:
    with reading(f"The stored study {name!r}"):
        return storage.get_all_trials(study._study_id, deepcopy=False)


def _row(
    trial: FrozenTrial,
    spec: StudySpec,
    num_groups: int,
    *,
    size: int | None,
    location: StudyLocation,
    with_predictions: bool,
) -> Row | None:
    where = f"Trial {trial.number} of the study {location.name!r}" + (f" at {size} labels" if size else "")
    stored = TrialAttributes.of(trial.user_attrs, where=where)
    with reading(where):
        params = trial.params or trial.system_attrs.get("fixed_params", {})
        if "freeze_depth" not in params:
            return None  # claimed a moment ago: not one parameter is sampled yet
        strategy = FreezingStrategy.from_params(params).canonical(num_groups, spec.train.epochs)
        value = trial.value
    known_size = size or stored.size
    if known_size is None or (size is None) != (stored.source_trial is not None):
        raise StudyError(f"{where} is none of ours: size or source_trial is missing.")
    confirms = stored.source_trial is not None
    return Row(
        **{**stored.model_dump(), "size": known_size},
        number=trial.number,
        state=trial.state.name,
        strategy=strategy,
        family=str(strategy.family(num_groups)),
        value=value,
        curve=tuple(sorted(trial.intermediate_values.items())),
        example_scores=read_example_scores(location, stored.predictions_file)
        if with_predictions and confirms
        else None,
    )
