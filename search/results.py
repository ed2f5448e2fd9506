"""Studies in the database as plain rows; no torch."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from search.errors import StudyError
from search.home import Home, database_url
from search.predictions import read_outcome
from search.rows import Results, Row
from search.spec import StudySpec
from search.storage import exists, open_storage, shown, storage_errors
from strategies import FreezingStrategy


def stored_spec(storage: BaseStorage, home: Home) -> StudySpec | None:
    """The spec that a study was started with, with its budgets as they last were; None if it is not stored."""
    return _spec_of(_studies(storage, home))


def read_results(storage: BaseStorage, home: Home, *, with_outcomes: bool = True) -> Results:
    """Read a study. Raises `StudyError` where the database has none of that name."""
    studies = _studies(storage, home)
    spec = _spec_of(studies)
    if spec is None:
        raise StudyError(
            f"There is no study {home.name!r} in this storage; known: {', '.join(known(storage)) or 'none'}."
        )
    stored = next(iter(studies.values())).user_attrs
    num_groups = int(stored["num_groups"])
    rows = [
        row
        for name, study in studies.items()
        for row in rows_of(
            storage.get_all_trials(study._study_id, deepcopy=False),
            spec,
            home,
            num_groups=num_groups,
            size=_size_of(name),
            with_outcomes=with_outcomes,
        )
    ]
    return Results(
        home=home,
        spec=spec,
        num_groups=num_groups,
        rows=tuple(rows),
        kind=stored.get("kind", "classification"),
        groups=tuple(stored.get("groups", ())),
    )


def rows_of(
    trials: Iterable[FrozenTrial],
    spec: StudySpec,
    home: Home,
    *,
    num_groups: int,
    size: int | None,
    with_outcomes: bool = False,
) -> list[Row]:
    """One study's trials as rows; `size` is None for confirm trials, which know their own."""
    rows = (_row(trial, spec, num_groups, size=size, home=home, with_outcomes=with_outcomes) for trial in trials)
    return [row for row in rows if row is not None]


def known(storage: BaseStorage) -> list[str]:
    """The names of Frostline's studies in a database."""
    return sorted({s.study_name.rpartition("/")[0] for s in storage.get_all_studies() if "spec" in s.user_attrs})


def load_results(home: Home, *, with_outcomes: bool = True) -> Results:
    """Read a stored study. Raises `StudyError` where there is none."""
    if not exists(home.url):
        raise StudyError(f"There is no study {home.name!r}: nothing is stored at {shown(home.url)}.")
    with storage_errors(home.url):
        return read_results(open_storage(home.url), home, with_outcomes=with_outcomes)


def known_homes(*, out: Path, storage: str | None) -> list[Home]:
    """The places of all studies under `out`, or in the database `storage`."""
    if storage is not None:
        url = database_url(storage)
        names = known(open_storage(url)) if exists(url) else []
    else:
        names = sorted(file.parent.name for file in out.glob("*/study.db"))
    return [Home.of(name, out=out, storage=storage) for name in names]


def _studies(storage: BaseStorage, home: Home) -> dict[str, Any]:
    ours = {
        study.study_name: study
        for study in storage.get_all_studies()
        if study.study_name.rpartition("/")[0] == home.name and "spec" in study.user_attrs
    }
    return dict(sorted(ours.items(), key=lambda item: (_size_of(item[0]) or 0, item[0])))


def _spec_of(studies: dict[str, Any]) -> StudySpec | None:
    for study in studies.values():
        content = study.user_attrs["spec"]
        if content.get("train", {}).get("augment"):  # before there were `views`, each picture was a new one
            content["train"].setdefault("views", "inf")
        return StudySpec.from_dict(content, where=f"the stored study {study.study_name!r}")
    return None


def _size_of(study_name: str) -> int | None:
    number = study_name.rpartition("/n=")[2]
    return int(number) if number.isdecimal() else None


def _row(
    trial: FrozenTrial, spec: StudySpec, num_groups: int, *, size: int | None, home: Home, with_outcomes: bool
) -> Row | None:
    params = trial.params or trial.system_attrs.get("fixed_params", {})
    if "freeze_depth" not in params:
        return None  # claimed a moment ago: not one parameter is sampled yet
    attrs = trial.user_attrs
    strategy = FreezingStrategy.from_params(params).canonical(num_groups, spec.train.epochs)
    confirms = "explored" in attrs
    return Row(
        number=trial.number,
        state=trial.state.name,
        size=attrs["size"] if size is None else size,
        chain=attrs.get("chain", 0),
        strategy=strategy,
        family=str(strategy.family(num_groups)),
        value=trial.value if trial.values else None,
        best_epoch=attrs.get("best_epoch"),
        epochs=attrs.get("epochs"),
        seconds=attrs.get("seconds"),
        trainable_parameters=attrs.get("trainable_parameters"),
        seed=attrs.get("seed"),
        curve=tuple(sorted(trial.intermediate_values.items())),
        anchor=bool(attrs.get("anchor", False)),
        learned_at=attrs.get("learned_at"),
        explored=attrs.get("explored"),
        test_accuracy=attrs.get("test_accuracy"),
        test_loss=attrs.get("test_loss"),
        test_macro_f1=attrs.get("test_macro_f1"),
        test_auroc=attrs.get("test_auroc"),
        test_mse=attrs.get("test_mse"),
        test_mae=attrs.get("test_mae"),
        test_r2=attrs.get("test_r2"),
        test_se=attrs.get("test_se"),
        test_examples=attrs.get("test_examples"),
        reason=attrs.get("reason"),
        outcomes=attrs.get("outcomes"),
        outcome=read_outcome(home, attrs.get("outcomes")) if with_outcomes and confirms else None,
    )
