import optuna
import pytest

from search.errors import SpecError
from search.spec.study_spec import StudySpec, find_study_file
from search.study.space import baselines, complete_space, fixed_params, samples_pretrained, suggest
from strategies import Family, FreezingStrategy

GROUPS = 4


@pytest.fixture
def spec():
    return StudySpec.from_file(find_study_file("digits"))


def test_baselines_include_every_family(spec):
    families = {baseline.family(GROUPS) for baseline in baselines(spec, num_groups=GROUPS)}
    assert families == set(Family)


def test_suggest_asks_only_for_fields_with_an_effect(spec):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(60):
        trial = study.ask()
        strategy = suggest(trial, spec, num_groups=GROUPS)
        depth = trial.params["freeze_depth"]
        assert ("backbone_lr_ratio" in trial.params) == ("unfreeze_epoch" in trial.params) == (depth < GROUPS)
        assert ("epochs_per_group" in trial.params) == (depth < GROUPS - 1)
        assert strategy.pretrained, "from scratch is never sampled"
        assert FreezingStrategy.from_params(trial.params).canonical(GROUPS, 20) == strategy


def test_baselines_move_into_the_space_or_stay_out(spec):
    narrow = spec.changed(space={"freeze_depth": {"low": 2, "high": 4}, "head_lr": 0.02, "pretrained": True})
    found = baselines(narrow, num_groups=GROUPS)
    assert {baseline.family(GROUPS) for baseline in found} == {Family.LINEAR_PROBING, Family.PARTIAL_FREEZING}
    assert {baseline.head_lr for baseline in found} == {0.02}


def test_baselines_stay_in_the_space_at_few_epochs(spec):
    # In 4 epochs the gradual baseline never reaches the first group, so its canonical depth is 1.
    fixed = spec.changed(space={"freeze_depth": 0}, train={"epochs": 4})
    found = baselines(fixed, num_groups=GROUPS)
    assert found
    for baseline in found:
        study = optuna.create_study()
        study.enqueue_trial(fixed_params(baseline, fixed, num_groups=GROUPS))
        assert suggest(study.ask(), fixed, num_groups=GROUPS, pretrained=baseline.pretrained) == baseline
        assert baseline.freeze_depth == 0


def test_from_scratch_is_sampled_only_if_nothing_else_may_be(spec):
    assert samples_pretrained(spec)
    assert samples_pretrained(spec.changed(space={"pretrained": [True, False]}))
    scratch = spec.changed(space={"pretrained": False})
    assert not samples_pretrained(scratch)
    assert {baseline.family(GROUPS) for baseline in baselines(scratch, num_groups=GROUPS)} == {Family.FROM_SCRATCH}
    trial = optuna.create_study().ask()
    assert not suggest(trial, scratch, num_groups=GROUPS, pretrained=False).pretrained
    assert trial.params["pretrained"] is False


def test_suggest_takes_constants_and_lists(spec):
    fixed = spec.changed(space={"freeze_depth": [0, 3], "unfreeze_epoch": 2, "layer_lr_decay": {"low": 0.5, "high": 1}})
    space = complete_space(fixed, num_groups=GROUPS)
    assert space["head_lr"] == complete_space(spec, num_groups=GROUPS)["head_lr"]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(30):
        trial = study.ask()
        suggest(trial, fixed, num_groups=GROUPS)
        assert trial.params["freeze_depth"] in (0, 3)
        assert trial.params["unfreeze_epoch"] == 2
        assert 0.5 <= trial.params.get("layer_lr_decay", 1.0) <= 1.0


def test_baselines_without_weights_have_no_from_scratch(spec):
    content = spec.model_dump(mode="json", exclude_none=True) | {"model": {"backbone": "small_cnn", "weights": "none"}}
    del content["source"]
    bare = StudySpec.from_dict(content, where="test")
    assert Family.FROM_SCRATCH not in {baseline.family(GROUPS) for baseline in baselines(bare, num_groups=GROUPS)}


REFINEMENTS = {
    "lr_growth": {"low": 1.0, "high": 2.0},
    "warmup_steps": {"low": 0, "high": 20},
    "scheduler": ["constant", "cosine"],
    "parameters": ["all", "norm", "bias"],
    "batch_norm": "frozen",
    "l2_sp": [0.0, 0.01],
}


def test_suggest_asks_for_no_refinement_by_default(spec):
    explicit = {"lr_growth": 1, "warmup_steps": [0], "scheduler": "constant", "l2_sp": {"low": 0, "high": 0}}
    for silent in (spec, spec.changed(space=explicit)):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for _ in range(20):
            trial = study.ask()
            suggest(trial, silent, num_groups=GROUPS)
            assert not trial.params.keys() & REFINEMENTS.keys()


def test_suggest_asks_for_refinements_only_with_an_effect(spec):
    refined = spec.changed(space=REFINEMENTS)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for number in range(80):
        trial = study.ask()
        pretrained = number % 4 > 0
        strategy = suggest(trial, refined, num_groups=GROUPS, pretrained=pretrained)
        unfreezes = trial.params["freeze_depth"] < GROUPS
        assert "scheduler" in trial.params
        assert ("lr_growth" in trial.params) == ("warmup_steps" in trial.params) == unfreezes
        for name in ("parameters", "batch_norm", "l2_sp"):
            assert (name in trial.params) == (unfreezes and pretrained)
        assert refined.strategy(trial.params, num_groups=GROUPS) == strategy


STEEP = {"lr_growth": 50.0, "scheduler": ["linear", "cosine"], "parameters": "norm"}


@pytest.mark.parametrize("space", [{}, REFINEMENTS, STEEP, {"parameters": ["norm", "all"]}])
def test_an_enqueued_baseline_is_what_is_trained(spec, space):
    refined = spec.changed(space=space)
    found = baselines(refined, num_groups=GROUPS)
    assert {baseline.family(GROUPS) for baseline in found} >= set(Family) - {Family.FULL_FINE_TUNING}
    for baseline in found:
        study = optuna.create_study()
        study.enqueue_trial(fixed_params(baseline, refined, num_groups=GROUPS))
        trial = study.ask()
        assert suggest(trial, refined, num_groups=GROUPS, pretrained=baseline.pretrained) == baseline
        assert refined.strategy(trial.params, num_groups=GROUPS) == baseline
        assert trial.params == fixed_params(baseline, refined, num_groups=GROUPS), "nothing else was asked for"


def test_baselines_train_all_if_the_space_has_it(spec):
    found = baselines(spec.changed(space={"parameters": ["norm", "all"]}), num_groups=GROUPS)
    assert {baseline.parameters for baseline in found if baseline.freeze_depth < GROUPS} == {"all"}


def test_baselines_take_the_spaces_refinements(spec):
    found = baselines(spec.changed(space={"scheduler": "cosine", "parameters": "bias"}), num_groups=GROUPS)
    assert {baseline.scheduler for baseline in found} == {"cosine"}
    unfreezing = [baseline for baseline in found if baseline.freeze_depth < GROUPS and baseline.pretrained]
    assert {baseline.parameters for baseline in unfreezing} == {"bias"}
    scratch = [baseline for baseline in found if not baseline.pretrained]
    assert {baseline.parameters for baseline in scratch} == {"trainable"}, "from scratch, all of the network trains"


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"scheduler": "step"}, """scheduler = 'step': `scheduler` must be one of "constant", "cosine", "linear\""""),
        ({"scheduler": 3}, "[space] scheduler = 3: must be one of 'constant', 'cosine', 'linear', or a list of them"),
        ({"parameters": ["all", "all"]}, "names at least one value, and each once"),
        ({"lr_growth": 0.5}, "lr_growth = 0.5: `lr_growth` must be finite and at least 1, got 0.5"),
        ({"warmup_steps": {"low": 0, "high": 2.5}}, "`warmup_steps` must be a whole number, got 2.5"),
        ({"l2_sp": "x"}, "[space] l2_sp = 'x': must be a number, a list of numbers, or a range"),
    ],
)
def test_space_refuses_other_refinements(spec, space, message):
    with pytest.raises(SpecError) as caught:
        spec.changed(space=space)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
