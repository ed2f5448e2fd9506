"""Creation of a study's Optuna studies, and what they must agree with when it resumes."""

from collections.abc import Sequence

import optuna
from optuna.storages import BaseStorage

from search.errors import StudyError
from search.spec.study_spec import StudySpec
from search.storage.location import StudyLocation
from search.storage.rdb import leased_storage
from search.study.extension import Marks, check_extends, keep_marks
from search.study.portfolio import portfolio
from search.study.recovery import under_lock
from search.study.space import baselines
from search.verdict.load import stored_attributes, stored_spec
from search.verdict.metric import metric_of


def create_studies(
    storage: BaseStorage,
    location: StudyLocation,
    spec: StudySpec,
    *,
    num_groups: int,
    kind: str = "classification",
    own_metric: bool = False,
    groups: Sequence[str] = (),
    flops: Sequence[int] = (),
    data: str = "",
    marks: Marks | None = None,
    classes: Sequence[str] = (),
    all: int = 0,
    labels: int = 0,
    cross_validated: bool = False,
    unexplored: Sequence[int] = (),
    extend: bool = False,
) -> None:
    """Create an Optuna study a size, and one to confirm; store the spec's budgets.

    num_groups, groups: number and names of the backbone's layer groups.
    kind: "classification" or "regression".
    flops: as in `Results`.
    own_metric: the user's own module logs the scores.
    data: digest of the data, "" if unknown; marks: those of `search.data.duplicates`; classes: their names.
    all, labels, cross_validated, unexplored: as in `Results`.
    extend: let new repeats draw from these data, where examples were added.
    Raises `StudyError` if the study was created with another spec or other data.
    """
    content = spec.model_dump(mode="json", exclude_none=True)
    drawn = {
        "data": data,
        "all": all,
        "labels": labels,
        "cross_validated": cross_validated,
        "unexplored": sorted(unexplored),
    }
    facts = drawn | {
        "num_groups": num_groups,
        "kind": kind,
        "own_metric": own_metric,
        "groups": list(groups),
        "flops": list(flops),
        "baselines": [strategy.to_params() for strategy in baselines(spec, num_groups=num_groups)],
        "portfolio": [strategy.to_params() for strategy in portfolio(spec, num_groups=num_groups)],
    }
    metric = metric_of(spec.task.metric, kind, own=own_metric)
    sizes = [all if size == "all" else size for size in spec.task.sizes]

    def create() -> None:
        check_stored(storage, location, spec)
        before = stored_attributes(storage, location)
        extensions = [] if before is None else [one.model_dump() for one in before.extensions]
        if before is not None and data and before.drawn.data not in ("", data):
            where = f"[task] data = {spec.task.data!r}"
            if not extend:
                raise StudyError(
                    f"Study {location.name!r} was created with other data: {where} has changed since. If examples were "
                    "only added, --extend draws new repeats from all. Else restore them, or give this study file "
                    "another name."
                )
            check_extends(location, before.drawn.data, marks, classes, where=where)
            whole = StudySpec.from_dict(before.spec, where=f"The stored study {location.name!r}")
            budgets = whole.within(before.budget)
            trials, repeats = budgets.search.trials, budgets.confirm.repeats
            extensions.append(drawn | {"trials": trials, "repeats": repeats})
        elif extensions:  # sizes may have been added
            extensions[-1]["unexplored"] = drawn["unexplored"]
        if data:
            keep_marks(location, data, marks, classes)
        for name in (*map(location.explore_name, sizes), location.confirm_name):
            study = optuna.create_study(
                study_name=name,
                storage=storage,
                direction="maximize" if metric.higher_is_better else "minimize",
                load_if_exists=True,
            )
            stored = study.user_attrs
            if "spec" not in stored:
                for key, fact in facts.items():
                    study.set_user_attr(key, fact)
            if extensions and name == location.confirm_name and stored.get("extensions") != extensions:
                study.set_user_attr("extensions", extensions)
            if stored.get("spec") != content:
                if not extensions:
                    study.set_user_attr("unexplored", drawn["unexplored"])
                study.set_user_attr("spec", content)

    under_lock(leased_storage(storage), location, create)


def store_plan(storage: BaseStorage, location: StudyLocation, plan: tuple[int, int] | None) -> None:
    """Store the trials and repeats that a time limit allows; None for all."""
    study_id = storage.get_study_id_from_name(location.confirm_name)
    storage.set_study_user_attr(study_id, "plan", plan)


def check_stored(storage: BaseStorage, location: StudyLocation, spec: StudySpec) -> None:
    """Raise `StudyError` if a study is stored with another spec; budgets may have grown."""
    stored = stored_spec(storage, location)
    if stored is not None and (differences := spec.differences(stored)):
        raise StudyError(
            f"Study {location.name!r} is stored with another spec: {'; '.join(differences)}. Only sizes, trials and "
            "repeats may grow, and where activations are kept may change. To resume it, write the stored values into "
            "the study file; else give it another name, or another --out or --storage."
        )


def check_weights(study: optuna.Study, location: StudyLocation, weights: str) -> None:
    """Raise `StudyError` if a study was created with pretrained weights of another digest than `weights`."""
    stored = study.user_attrs.get("weights")
    if stored is None:
        study.set_user_attr("weights", weights)
    elif stored != weights:
        raise StudyError(
            f"Study {location.name!r} was created with other weights of its backbone than are here. All its workers "
            f"need the same. Those of a source task are in {location.folder}: share that folder (--out), or copy it. "
            "Those of a file or a library must be the same version."
        )
