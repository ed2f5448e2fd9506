"""Sampler and pruner of exploring trials."""

import optuna

from search.pruning import PhasePruner
from search.spec.study_spec import StudySpec
from search.study.sampling import pruner, sampler

GROUPS = 4
SPEC = StudySpec.from_dict(
    {
        "task": {"data": "digits", "sizes": [50, 100, 200], "metric": "loss"},
        "model": {"backbone": "small_cnn", "weights": "none"},
        "search": {"trials": 20},
    },
    where="test",
)
FIRST = 16


def test_sampler_depends_on_seed_size_and_number_alone():
    def drawn(spec: StudySpec, size: int, number: int) -> dict[str, float]:
        trial = optuna.create_study(sampler=sampler(spec, size=size, number=number)).ask()
        return {"lr": trial.suggest_float("lr", 0, 1)}

    assert drawn(SPEC, 50, 9) == drawn(SPEC, 50, 9)
    others = [(SPEC, 100, 9), (SPEC, 50, 10), (SPEC.changed(search={"seed": 1}), 50, 9)]
    assert all(drawn(*other) != drawn(SPEC, 50, 9) for other in others)


def test_pruner_is_the_study_files():
    assert isinstance(pruner(SPEC, num_groups=GROUPS, first=FIRST), PhasePruner)
    none = SPEC.changed(search={"pruner": "none"})
    assert isinstance(pruner(none, num_groups=GROUPS, first=FIRST), optuna.pruners.NopPruner)
