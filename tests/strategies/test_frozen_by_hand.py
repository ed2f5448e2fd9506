"""Parameters with `requires_grad = False` before the strategy came stay frozen, unless it says otherwise."""

import copy
import warnings

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback

from strategies import FreezingCallback, FreezingStrategy, layer_groups, trained_parameters
from strategies.freeze import set_trainable
from tests.strategies.learner import EPOCHS, Module, Watch, loader, trainer

BY_HAND = ["backbone.1.0.weight", "backbone.2.1.weight", "backbone.2.1.bias", "head.bias"]
STATISTICS = ["backbone.2.1.running_mean", "backbone.2.1.running_var", "backbone.2.1.num_batches_tracked"]
WARNING = (
    r"4 parameter.s. \(backbone.1.0.weight, .*, head.bias\) had requires_grad = False before the fit and stay frozen"
)


class HandFrozen(Module):
    """One matrix of the second stage, the third's batch norm and the head's bias are frozen."""

    def __init__(self, strategy):
        super().__init__(strategy)
        for name in BY_HAND:
            self.get_parameter(name).requires_grad_(False)

    def training_step(self, batch, index):
        torch.manual_seed(self.global_step)
        return super().training_step(batch, index)


HOOKS = ["setup", "configure_model", "on_fit_start", "on_train_start", "on_train_epoch_start"]


def frozen_in(hook):
    """Return a module's class whose hook freezes the same, in the first epoch only."""

    def freeze(module, **_):
        if module.current_epoch == 0:
            for name in BY_HAND:
                module.get_parameter(name).requires_grad_(False)

    return type("FrozenInHook", (Module,), {hook: freeze})


def moved(module, before):
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


def all_of(stages, module):
    return {name for name in module.state_dict() if name.startswith((*(f"backbone.{n}." for n in stages), "head."))}


FULL = FreezingStrategy(freeze_depth=0, head_lr=0.05, backbone_lr_ratio=1)
GRADUAL = FreezingStrategy(freeze_depth=1, unfreeze_epoch=1, epochs_per_group=1, head_lr=0.05, l2_sp=0.1)


@pytest.mark.parametrize("strategy", [FULL, GRADUAL])
def test_what_was_frozen_by_hand_stays_frozen_and_is_named(strategy):
    module = HandFrozen(strategy)
    before = copy.deepcopy(module.state_dict())
    with pytest.warns(UserWarning, match=WARNING) as seen:
        trainer(FreezingCallback(strategy), epochs=3).fit(module, loader())
    assert len([warning for warning in seen if "requires_grad" in str(warning.message)]) == 1
    stages = range(strategy.freeze_depth, 3)
    assert moved(module, before) == all_of(stages, module) - {*BY_HAND, *STATISTICS}


def test_all_trains_what_was_frozen_by_hand():
    strategy = FreezingStrategy(freeze_depth=1, parameters="all", head_lr=0.05, backbone_lr_ratio=1)
    module = HandFrozen(strategy)
    before = copy.deepcopy(module.state_dict())
    trainer(FreezingCallback(strategy), epochs=3).fit(module, loader())
    assert moved(module, before) == all_of((1, 2), module)


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("strategy", [FULL, GRADUAL])
def test_what_a_hook_freezes_stays_frozen_and_is_named(strategy, hook):
    """Also in groups that the strategy unfreezes later."""
    module = frozen_in(hook)(strategy)
    before = copy.deepcopy(module.state_dict())
    with pytest.warns(UserWarning, match=WARNING):
        trainer(FreezingCallback(strategy), epochs=4).fit(module, loader())
    assert not moved(module, before) & {*BY_HAND}
    free = all_of(range(strategy.freeze_depth, 3), module) - {*BY_HAND, *STATISTICS}
    assert moved(module, before) - {*STATISTICS} == free


def test_all_trains_what_a_hook_froze():
    strategy = FreezingStrategy(freeze_depth=0, parameters="all", head_lr=0.05, backbone_lr_ratio=1)
    module = frozen_in("on_fit_start")(strategy)
    before = copy.deepcopy(module.state_dict())
    trainer(FreezingCallback(strategy), epochs=2).fit(module, loader())
    assert moved(module, before) == all_of((0, 1, 2), module)


def test_what_a_hook_unfreezes_is_frozen_again():
    class Unfreezing(Module):
        def on_train_epoch_start(self):
            self.backbone.requires_grad_(True)

    watch = Watch(GRADUAL.schedule(3, 4))
    with pytest.warns(UserWarning, match=r"parameter.s. \(backbone.0.0.weight, .* frozen again"):
        trainer(FreezingCallback(GRADUAL), watch, epochs=4).fit(Unfreezing(GRADUAL), loader())
    assert watch.seen == [(False, False, False), (False, False, True), (False, True, True), (False, True, True)]


@pytest.mark.parametrize("fields", [{"freeze_depth": 3}, {"freeze_depth": 1, "parameters": "norm"}])
def test_only_what_would_train_is_named(fields):
    strategy = FreezingStrategy(**fields, batch_norm="frozen" if fields["freeze_depth"] == 3 else "train")
    module = HandFrozen(strategy)
    with pytest.warns(UserWarning, match="requires_grad = False before") as seen:
        trainer(FreezingCallback(strategy), epochs=1).fit(module, loader())
    [text] = [str(warning.message) for warning in seen if "requires_grad" in str(warning.message)]
    assert "backbone.1.0.weight" not in text
    assert ("backbone.2.1.weight" in text) == (strategy.parameters == "norm")


@pytest.mark.filterwarnings("ignore:.*had requires_grad = False before the fit")
@pytest.mark.parametrize("again", [lambda module: module, copy.deepcopy], ids=["same", "copy"])
def test_a_second_fit_knows_what_the_first_strategy_froze(again):
    probing = FreezingStrategy(freeze_depth=3, head_lr=0.05)
    module = HandFrozen(probing)
    trainer(FreezingCallback(probing), epochs=1).fit(module, loader())
    module = again(module)
    for strategy in (GRADUAL, FULL, GRADUAL):
        module.strategy = strategy
        before = copy.deepcopy(module.state_dict())
        trainer(FreezingCallback(strategy), epochs=3).fit(module, loader())
        assert moved(module, before) >= all_of(range(strategy.freeze_depth, 3), module) - {*BY_HAND, *STATISTICS}
        assert not moved(module, before) & {*BY_HAND, *STATISTICS}


@pytest.mark.filterwarnings("ignore:.*had requires_grad = False before the fit")
def test_a_run_with_parameters_frozen_by_hand_resumes(tmp_path):
    class Save(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch}.ckpt")

    whole = HandFrozen(GRADUAL)
    trainer(FreezingCallback(GRADUAL), Save()).fit(whole, loader())
    for epoch in range(EPOCHS - 1):
        resumed = HandFrozen(GRADUAL)
        trainer(FreezingCallback(GRADUAL)).fit(resumed, loader(), ckpt_path=tmp_path / f"{epoch}.ckpt")
        assert not moved(resumed, whole.state_dict())


def test_a_backbone_frozen_by_hand_is_probed_or_refused():
    class Features(Module):
        def __init__(self, strategy):
            super().__init__(strategy)
            self.backbone.requires_grad_(False)

    class Late(Module):
        def on_fit_start(self):
            self.backbone.requires_grad_(False)

    for module in (Features(FULL), Late(FULL)):
        with pytest.raises(
            MisconfigurationException, match=r'unless the strategy is a FreezingStrategy\(parameters="all"\)'
        ):
            trainer(FreezingCallback(FULL)).fit(module, loader())
    probing = FreezingStrategy(freeze_depth=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", ".*(in eval mode|many workers|val_dataloader|LeafSpec)")
        trainer(FreezingCallback(probing), epochs=1).fit(Features(probing), loader())


def test_counts_leave_out_what_was_frozen_by_hand():
    backbone = HandFrozen(FULL).backbone
    groups = layer_groups(backbone)
    expected = {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    for trainable in ((True,) * 3, (False,) * 3, (False, True, True)):
        set_trainable(groups, trainable)
        assert trained_parameters(groups, FULL).keys() == expected, "in any phase"
    every = FreezingStrategy(freeze_depth=0, parameters="all")
    assert len(trained_parameters(groups, every)) == len(list(backbone.parameters()))
