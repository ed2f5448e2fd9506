"""Warm start, sampler and pruner of exploring trials."""

import optuna
import pytest

from search.pruning import PhasePruner
from search.spec.study_spec import StudySpec
from search.study.sampling import pruner, sampler, warm_start
from search.verdict.metric import metric_of
from search.verdict.rows import Row
from strategies import FreezingStrategy

GROUPS = 4
SPEC = StudySpec.from_dict(
    {
        "task": {"data": "digits", "sizes": [50, 100, 200], "metric": "loss"},
        "model": {"backbone": "small_cnn", "weights": "none"},
        "search": {"trials": 20},
    },
    where="test",
)
BASELINES = 8


def row(
    number: int, strategy: FreezingStrategy, value: float | None, *, size: int = 50, state: str = "COMPLETE"
) -> Row:
    return Row(
        number=number, state=state, size=size, repeat=0, strategy=strategy, family=str(strategy.family(GROUPS)),
        value=value, epochs=20, seconds=1.0, trainable_parameters=1, seed=0, curve=(), baseline=False,
    )  # fmt: skip


def probe(rate: float) -> FreezingStrategy:
    return FreezingStrategy.linear_probing(num_groups=GROUPS, head_lr=rate)


def full(rate: float) -> FreezingStrategy:
    return FreezingStrategy.full_fine_tuning(head_lr=rate)


OTHERS = [probe(1e-3 + 1e-5 * number) for number in range(BASELINES)]


def learned(
    smaller: dict[int, list[Row]], tried: list[FreezingStrategy], spec: StudySpec = SPEC
) -> list[FreezingStrategy]:
    """Return all strategies of the warm start in order."""
    found: list[FreezingStrategy] = []
    while (
        one := warm_start(
            spec,
            metric=metric_of(spec.task.metric, "classification"),
            baselines=BASELINES,
            tried=[*tried, *found],
            smaller=smaller,
        )
    ) is not None:
        found.append(one.strategy)
    return found


def test_warm_start_takes_the_nearest_size_then_the_best_first():
    smaller = {
        50: [row(0, probe(3e-3), 0.1), row(1, full(3e-3), 0.2)],
        100: [row(0, probe(1e-2), 0.9), row(1, full(1e-2), 0.3), row(2, full(2e-2), 0.4)],
    }
    assert learned(smaller, OTHERS) == [full(1e-2), probe(1e-2), probe(3e-3), full(3e-3)]


def test_warm_start_skips_tried_and_pruned_strategies():
    smaller = {50: [row(0, probe(3e-3), 0.1), row(1, full(3e-3), 0.2), row(2, full(1e-2), 0.1, state="PRUNED")]}
    assert learned(smaller, [*OTHERS[1:], probe(3e-3)]) == [full(3e-3)]


def test_warm_start_maximizes_an_accuracy():
    spec = SPEC.changed(task={"metric": "accuracy"})
    smaller = {50: [row(0, probe(3e-3), 0.6), row(1, probe(1e-2), 0.7), row(2, full(3e-3), 0.8)]}
    assert learned(smaller, OTHERS, spec) == [full(3e-3), probe(1e-2)]


@pytest.mark.parametrize("trials", [9, 10, 20, 40])
def test_warm_start_leaves_half_of_the_trials_to_the_sampler(trials):
    many = {size: [row(0, probe(size * 1e-5), 0.1, size=size), row(1, full(size * 1e-5), 0.2)] for size in range(1, 30)}
    spec = SPEC.changed(search={"trials": trials})
    assert len(learned(many, OTHERS, spec)) == (trials - BASELINES) // 2


def test_warm_start_needs_a_smaller_size():
    assert learned({}, OTHERS) == []


def test_sampler_depends_on_seed_size_and_number_alone():
    def drawn(spec: StudySpec, size: int, number: int) -> dict[str, float]:
        trial = optuna.create_study(sampler=sampler(spec, size=size, number=number)).ask()
        return {"lr": trial.suggest_float("lr", 0, 1)}

    assert drawn(SPEC, 50, 9) == drawn(SPEC, 50, 9)
    others = [(SPEC, 100, 9), (SPEC, 50, 10), (SPEC.changed(search={"seed": 1}), 50, 9)]
    assert all(drawn(*other) != drawn(SPEC, 50, 9) for other in others)


def test_pruner_is_the_study_files():
    assert isinstance(pruner(SPEC, num_groups=GROUPS, baselines=BASELINES), PhasePruner)
    none = SPEC.changed(search={"pruner": "none"})
    assert isinstance(pruner(none, num_groups=GROUPS, baselines=BASELINES), optuna.pruners.NopPruner)
