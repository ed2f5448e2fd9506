"""Runs that do not suit a strategy are refused before training."""

import copy

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn
from torch.optim import AdamW
from torch.utils.data import DataLoader, IterableDataset

from strategies import FreezingCallback, FreezingStrategy, param_groups
from tests.strategies.learner import EPOCHS, Module, Rates, Scheduled, Watch, loader, trainer


def test_an_optimizer_without_all_groups_is_refused():
    class HeadAlone(Module):
        def configure_optimizers(self):
            return AdamW(self.head.parameters())

    strategy = FreezingStrategy(freeze_depth=0, unfreeze_epoch=2)
    with pytest.raises(MisconfigurationException, match=r"'0' unfreezes at epoch 2, but the optimizer does not hold"):
        trainer(FreezingCallback(strategy)).fit(HeadAlone(strategy), loader())


def test_an_optimizer_may_filter_by_requires_grad():
    class Filtered(Module):
        def configure_optimizers(self):
            return AdamW([p for p in self.parameters() if p.requires_grad], lr=0.05)

    strategy = FreezingStrategy(freeze_depth=1, unfreeze_epoch=2)
    watch = Watch(strategy.schedule(3, EPOCHS))
    trainer(FreezingCallback(strategy), watch).fit(Filtered(strategy), loader())
    assert watch.seen[-1] == (False, True, True)


def test_an_unknown_part_is_named():
    strategy = FreezingStrategy(freeze_depth=1)
    message = r"Module has no module 'encoder'; .* takes the names of two of its own: backbone, head\."
    with pytest.raises(MisconfigurationException, match=message):
        trainer(FreezingCallback(strategy, backbone="encoder")).fit(Module(strategy), loader())


MOVED = FreezingStrategy(freeze_depth=0, warmup_steps=3, scheduler="cosine")


def test_two_schedulers_are_refused():
    with pytest.raises(MisconfigurationException, match="and so does the module's own LambdaLR: keep one of the two"):
        trainer(FreezingCallback(MOVED)).fit(Scheduled(MOVED, "LambdaLR"), loader())


def test_moving_rates_need_own_parameter_groups():
    class OneGroup(Module):
        def configure_optimizers(self):
            return AdamW(self.parameters())

    with pytest.raises(MisconfigurationException, match="rates of 0, 1, 2, head apart, but they are in one"):
        trainer(FreezingCallback(MOVED)).fit(OneGroup(MOVED), loader())


def test_a_scheduler_needs_an_end_and_steps_a_length():
    class Endless(IterableDataset):
        def __iter__(self):
            yield from [(torch.randn(4), 0)] * 8

    with pytest.raises(MisconfigurationException, match="needs a last epoch: set Trainer"):
        trainer(FreezingCallback(MOVED), epochs=-1, max_steps=4).fit(Module(MOVED), loader())
    with pytest.raises(MisconfigurationException, match="needs a known number of batches"):
        trainer(FreezingCallback(MOVED), epochs=1).fit(Module(MOVED), DataLoader(Endless(), batch_size=4))
    rates = Rates()
    run = trainer(FreezingCallback(MOVED), rates, epochs=1, limit_train_batches=2)
    run.fit(Module(MOVED), DataLoader(Endless(), batch_size=4))
    assert len(rates.seen) == 2


@pytest.mark.parametrize(
    ("fields", "refused"),
    [({"freeze_depth": 1}, True), ({"scheduler": "cosine"}, True), ({"batch_norm": "frozen"}, True), ({}, False)],
)
def test_averaging_with_frozen_statistics_is_refused(fields, refused):
    strategy = FreezingStrategy(**{"freeze_depth": 0} | fields)
    run = trainer(FreezingCallback(strategy), StochasticWeightAveraging(swa_lrs=1e-3), epochs=2)
    if refused:
        with pytest.raises(MisconfigurationException, match="loses the statistics of frozen batch norms and moves"):
            run.fit(Module(strategy), loader())
    else:
        run.fit(Module(strategy), loader())


def test_a_backbone_with_nothing_to_train_is_refused():
    strategy = FreezingStrategy(freeze_depth=0, parameters="norm", batch_norm="frozen")
    with pytest.raises(MisconfigurationException, match="'norm' with `batch_norm` = 'frozen' leaves the backbone"):
        trainer(FreezingCallback(strategy)).fit(Module(strategy), loader())


def test_norms_alone_may_unfreeze_without_norms():
    strategy = FreezingStrategy(freeze_depth=2, parameters="norm")
    module = Module(strategy)
    module.backbone[2] = nn.Linear(4, 4)
    start = copy.deepcopy(module.backbone.state_dict())
    trainer(FreezingCallback(strategy), epochs=1).fit(module, loader())
    assert all(torch.equal(tensor, start[name]) for name, tensor in module.backbone.state_dict().items())


def test_sharded_training_is_refused(monkeypatch):
    strategy = FreezingStrategy(freeze_depth=0)
    run = trainer()
    monkeypatch.setattr(run._accelerator_connector, "strategy", FSDPStrategy())
    with pytest.raises(MisconfigurationException, match="a single device and under DDP, not under FSDPStrategy"):
        FreezingCallback(strategy).setup(run, Module(strategy), "fit")


class Beside(Module):
    """A layer beside backbone and head."""

    def __init__(self, strategy, *, held=False):
        super().__init__(strategy)
        self.last, self.held = nn.Linear(2, 2), held

    def training_step(self, batch, index):
        return nn.functional.cross_entropy(self.last(self.head(self.backbone(batch[0]))), batch[1])

    def configure_optimizers(self):
        heads = nn.ModuleList([self.head, self.last]) if self.held else self.head
        return AdamW(param_groups(self.backbone, heads, self.strategy))


def test_parameters_in_no_optimizer_are_named():
    strategy = FreezingStrategy(freeze_depth=1, unfreeze_epoch=1)
    advice = (
        r"2 parameter.s. \(last.weight, last.bias\) are in no optimizer, so they never train: put them into the head"
    )
    with pytest.warns(UserWarning, match=advice):
        trainer(FreezingCallback(strategy), epochs=2).fit(Beside(strategy), loader())
    held, frozen = Beside(strategy, held=True), Beside(strategy)
    frozen.last.requires_grad_(False)
    for module in (held, frozen):
        start = module.last.weight.detach().clone()
        trainer(FreezingCallback(strategy), epochs=2).fit(module, loader())
        assert torch.equal(module.last.weight, start) == (module is frozen)


class InPlace(Module):
    """Its whole network is one module, in which head and backbone hold each other or are apart."""

    def __init__(self, strategy, *, backbone, head):
        super().__init__(strategy)
        self.names = backbone, head
        self.net = nn.Sequential(nn.Sequential(*self.backbone), self.head)
        del self.backbone, self.head

    def training_step(self, batch, index):
        torch.manual_seed(self.global_step)
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        backbone, head = map(self.get_submodule, self.names)
        return AdamW(param_groups(backbone, head, self.strategy), weight_decay=0.1)


@pytest.mark.parametrize("fields", [{"unfreeze_epoch": 1, "epochs_per_group": 1}, {"freeze_depth": 3}])
@pytest.mark.parametrize(("backbone", "head"), [("net", "net.1"), ("net.0", "net")])
def test_of_two_parts_that_hold_each_other_one_is_the_rest(backbone, head, fields):
    strategy = FreezingStrategy(**{"freeze_depth": 0, "head_lr": 0.05, "scheduler": "cosine"} | fields)
    modules = InPlace(strategy, backbone="net.0", head="net.1"), InPlace(strategy, backbone=backbone, head=head)
    for module in modules:
        names = dict(zip(("backbone", "head"), module.names, strict=True))
        trainer(FreezingCallback(strategy, **names), epochs=4).fit(module, loader())
    apart, inside = modules
    assert inside.net[1].training
    for (name, tensor), other in zip(apart.state_dict().items(), inside.state_dict().values(), strict=True):
        assert torch.equal(tensor, other), name
