import optuna
import pytest

from search.space import anchors, complete_space, fixed_params, samples_pretrained, strategy_of, suggest
from search.spec import StudySpec, find_study_file
from strategies import Family, FreezingStrategy

GROUPS = 4


@pytest.fixture
def spec():
    return StudySpec.from_file(find_study_file("digits"))


def test_every_family_is_anchored(spec):
    families = {anchor.family(GROUPS) for anchor in anchors(spec, num_groups=GROUPS)}
    assert families == set(Family)


def test_an_enqueued_anchor_is_what_is_trained(spec):
    for anchor in anchors(spec, num_groups=GROUPS):
        study = optuna.create_study()
        study.enqueue_trial(fixed_params(anchor, num_groups=GROUPS))
        trial = study.ask()
        assert suggest(trial, spec, num_groups=GROUPS, pretrained=anchor.pretrained) == anchor
        assert strategy_of(trial.params, spec, num_groups=GROUPS) == anchor
        assert trial.params == fixed_params(anchor, num_groups=GROUPS), "nothing else was asked for"


def test_a_field_is_asked_for_only_where_it_means_something(spec):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(60):
        trial = study.ask()
        strategy = suggest(trial, spec, num_groups=GROUPS)
        depth = trial.params["freeze_depth"]
        assert ("backbone_lr_ratio" in trial.params) == ("unfreeze_epoch" in trial.params) == (depth < GROUPS)
        assert ("epochs_per_group" in trial.params) == (depth < GROUPS - 1)
        assert strategy.pretrained, "from scratch is never sampled"
        assert FreezingStrategy.from_params(trial.params).canonical(GROUPS, 20) == strategy


def test_anchors_move_into_the_space_or_stay_out(spec):
    narrow = spec.changed(space={"freeze_depth": {"low": 2, "high": 4}, "head_lr": 0.02, "pretrained": True})
    found = anchors(narrow, num_groups=GROUPS)
    assert {anchor.family(GROUPS) for anchor in found} == {Family.LINEAR_PROBING, Family.PARTIAL_FREEZING}
    assert {anchor.head_lr for anchor in found} == {0.02}


def test_anchors_stay_inside_the_space_when_few_epochs_make_them_shallower(spec):
    # In 4 epochs the gradual anchor never reaches the first group, so its canonical depth is 1.
    fixed = spec.changed(space={"freeze_depth": 0}, train={"epochs": 4})
    found = anchors(fixed, num_groups=GROUPS)
    assert found
    for anchor in found:
        study = optuna.create_study()
        study.enqueue_trial(fixed_params(anchor, num_groups=GROUPS))
        assert suggest(study.ask(), fixed, num_groups=GROUPS, pretrained=anchor.pretrained) == anchor
        assert anchor.freeze_depth == 0


def test_from_scratch_is_sampled_only_where_the_space_allows_nothing_else(spec):
    assert samples_pretrained(spec)
    assert samples_pretrained(spec.changed(space={"pretrained": [True, False]}))
    scratch = spec.changed(space={"pretrained": False})
    assert not samples_pretrained(scratch)
    assert {anchor.family(GROUPS) for anchor in anchors(scratch, num_groups=GROUPS)} == {Family.FROM_SCRATCH}
    trial = optuna.create_study().ask()
    assert not suggest(trial, scratch, num_groups=GROUPS, pretrained=False).pretrained
    assert trial.params["pretrained"] is False


def test_a_study_may_fix_a_field_or_list_its_values(spec):
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


def test_without_weights_there_is_no_from_scratch_arm(spec):
    content = spec.model_dump(mode="json", exclude_none=True) | {"model": {"backbone": "small_cnn", "weights": "none"}}
    del content["source"]
    bare = StudySpec.from_dict(content, where="test")
    assert Family.FROM_SCRATCH not in {anchor.family(GROUPS) for anchor in anchors(bare, num_groups=GROUPS)}
