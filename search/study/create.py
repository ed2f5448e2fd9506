"""How a study begins: what it stores of itself, and with what it then refuses to go on."""

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.storages import BaseStorage

from search.errors import StudyError
from search.spec.study_spec import StudySpec
from search.storage.location import StudyLocation
from search.verdict.load import stored_spec


def check_stored(storage: BaseStorage, location: StudyLocation, spec: StudySpec) -> None:
    """Raises `StudyError` if a study is stored under another spec; growing budgets are no difference."""
    stored = stored_spec(storage, location)
    if stored is not None and (differences := spec.differences(stored)):
        raise StudyError(
            f"Study {location.name!r} is stored with another spec: {'; '.join(differences)}. Only sizes, trials and "
            "repeats may grow, and where activations are kept may change. Write what is stored into the study file to "
            "go on; or give it another name, or --out or --storage another place."
        )


def open_study(
    name: str,
    *,
    storage: BaseStorage,
    location: StudyLocation,
    spec: StudySpec,
    facts: Mapping[str, Any],
    pruner: BasePruner,
) -> optuna.Study:
    """One of the studies of a spec, made where it is not there yet, with the spec's budgets.

    `facts`: num_groups, kind, groups, data (a digest, "" if not known), which are stored of its task when it is made.
    Raises `StudyError` if it was made with other data.
    """
    study = optuna.create_study(
        study_name=name, storage=storage, direction=spec.task.direction, pruner=pruner, load_if_exists=True
    )
    stored = study.user_attrs
    if "spec" not in stored:
        for key, fact in facts.items():
            study.set_user_attr(key, fact)
    elif facts["data"] and stored.get("data", "") not in ("", facts["data"]):
        raise StudyError(
            f"Study {location.name!r} was begun on other data: [task] data = {spec.task.data!r} has changed "
            "since. Bring it back, or give this study file another name."
        )
    content = spec.model_dump(mode="json", exclude_none=True)
    if stored.get("spec") != content:
        study.set_user_attr("spec", content)
    return study


def check_weights(study: optuna.Study, location: StudyLocation, weights: str) -> None:
    """Raises `StudyError` if a study was begun with other pretrained weights; `weights` is the digest of ours."""
    stored = study.user_attrs.get("weights")
    if stored is None:
        study.set_user_attr("weights", weights)
    elif stored != weights:
        raise StudyError(
            f"Study {location.name!r} was begun with other weights of its backbone than are here. All its "
            f"workers need the same: those of a source task lie in {location.folder}, so share that (--out), "
            "or copy it; those of a file or a library must be the same version."
        )
