import math

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from search.pruning import PhasePruner
from strategies import FreezingStrategy

GROUPS, EPOCHS, GRACE = 4, 20, 3


class Always(optuna.pruners.BasePruner):
    """A pruner without mercy, to see when it is asked."""

    def prune(self, study, trial):
        return True


def prunes(params, *values, pruner=None):
    distributions = {
        name: FloatDistribution(0, 10) if isinstance(value, float) else IntDistribution(0, 100)
        for name, value in params.items()
    }
    study = optuna.create_study()
    trial = create_trial(
        state=TrialState.RUNNING,
        params=params,
        distributions=distributions,
        intermediate_values=dict(enumerate(values)),
    )
    phase = PhasePruner(pruner or Always(), num_groups=GROUPS, epochs=EPOCHS, grace=GRACE)
    return phase.prune(study, trial)


@pytest.mark.parametrize(
    ("params", "first"),
    [
        ({"freeze_depth": 0}, GRACE),
        ({"freeze_depth": 0, "unfreeze_epoch": 8}, 8 + GRACE),
        # Gradual: groups 3, 2, 1 unfreeze at 2, 5, 8, and the last is what counts.
        ({"freeze_depth": 1, "unfreeze_epoch": 2, "epochs_per_group": 3}, 8 + GRACE),
        # Group 0 would unfreeze at 20 = never, so the last unfreezing is group 1's.
        ({"freeze_depth": 0, "unfreeze_epoch": 2, "epochs_per_group": 6}, 14 + GRACE),
    ],
)
def test_pruner_waits_for_the_last_unfreezing_and_grace(params, first):
    for step in range(EPOCHS):
        assert prunes(params, *[1.0] * (step + 1)) == (step >= first), step


def test_linear_probing_is_never_pruned():
    assert not prunes({"freeze_depth": GROUPS}, *[1.0] * EPOCHS)
    assert not prunes({"freeze_depth": 0, "unfreeze_epoch": EPOCHS}, *[1.0] * EPOCHS)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_prunes_at_once(value):
    assert prunes({"freeze_depth": 0, "unfreeze_epoch": 8}, 1.0, value)
    assert prunes({"freeze_depth": GROUPS}, value)


def test_a_trial_without_reports_is_not_pruned():
    assert not prunes({"freeze_depth": 0})


def test_pruner_asks_the_one_it_wraps():
    assert not prunes({"freeze_depth": 0}, *[1.0] * EPOCHS, pruner=optuna.pruners.NopPruner())


def test_pruner_works_in_a_plain_optuna_study():
    pruner = PhasePruner(optuna.pruners.MedianPruner(n_startup_trials=1), num_groups=GROUPS, epochs=EPOCHS)
    study = optuna.create_study(pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=0))

    def objective(trial):
        trial.suggest_int("freeze_depth", 0, GROUPS - 1)
        unfreeze = trial.suggest_int("unfreeze_epoch", 0, 9)
        trial.suggest_float("dropout", 0, 0.5)  # no field of a strategy
        for epoch in range(EPOCHS):
            trial.report(1.0 + trial.number, epoch)
            if trial.should_prune():
                assert epoch >= unfreeze + 3
                raise optuna.TrialPruned
        return 1.0 + trial.number

    study.optimize(objective, n_trials=8)
    states = [trial.state for trial in study.trials]
    assert states[0] == TrialState.COMPLETE
    assert states[1:] == [TrialState.PRUNED] * 7


@pytest.mark.parametrize("suggested", [{}, {"parameters": ["norm", "trainable"], "scheduler": ["cosine", "constant"]}])
def test_an_enqueued_strategy_is_what_runs(suggested):
    ran = []

    def objective(trial):
        fields = {
            "freeze_depth": trial.suggest_int("freeze_depth", 0, 5),
            "unfreeze_epoch": trial.suggest_int("unfreeze_epoch", 0, 19),
            "epochs_per_group": trial.suggest_int("epochs_per_group", 0, 2),
            "backbone_lr_ratio": trial.suggest_float("backbone_lr_ratio", 0.01, 1, log=True),
            "head_lr": trial.suggest_float("head_lr", 1e-5, 0.1, log=True),
            "layer_lr_decay": trial.suggest_float("layer_lr_decay", 0.3, 1.0),
            **{name: trial.suggest_categorical(name, words) for name, words in suggested.items()},
        }
        ran.append(FreezingStrategy(**fields))
        assert FreezingStrategy.from_params(trial.params) == ran[-1]
        return 1.0

    wanted = [
        FreezingStrategy.full_fine_tuning(),
        FreezingStrategy.partial_freezing(freeze_depth=3),
        FreezingStrategy.freeze_then_unfreeze(unfreeze_epoch=5),
        FreezingStrategy.gradual_unfreezing(epochs_per_group=2),
        FreezingStrategy.linear_probing(num_groups=5),
    ]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for strategy in wanted:
        study.enqueue_trial(strategy.to_params())
    study.optimize(objective, n_trials=len(wanted))
    assert ran == wanted


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"num_groups": 0}, "num_groups"),
        ({"num_groups": "4"}, "num_groups"),
        ({"epochs": 0}, "epochs"),
        ({"grace": -1}, "grace"),
        ({"pruner": None}, "pruner"),
    ],
)
def test_pruner_refuses_other_arguments(options, named):
    options = {"pruner": Always(), "num_groups": GROUPS, "epochs": EPOCHS} | options
    with pytest.raises((TypeError, ValueError), match=f"`{named}` must be"):
        PhasePruner(options.pop("pruner"), **options)


def test_pruner_names_itself_for_params_of_no_strategy():
    with pytest.raises(ValueError, match="PhasePruner reads a strategy from trial -1's params: `freeze_depth`"):
        prunes({"head_lr": 0.1}, 1.0)
