"""The callback in a Lightning run: resume, second fits, users' own modules and schedulers."""

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from strategies import FreezingCallback, FreezingStrategy
from tests.strategies.learner import EPOCHS, SCHEDULERS, Module, Rates, Scheduled, Watch, loader, trainer


class Same(Module):
    """A module whose batches are all alike: Lightning reads the data from the start again within an epoch."""

    def training_step(self, batch, index):
        torch.manual_seed(self.global_step)
        return super().training_step(batch, index)

    def train_dataloader(self):
        generator = torch.Generator().manual_seed(1)
        data = TensorDataset(torch.randn(4, 4, generator=generator).repeat(3, 1), torch.arange(12) % 2)
        return DataLoader(data, batch_size=4)

    def val_dataloader(self):
        return loader()


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_validation_end"])
def test_resume_within_an_epoch_equals_the_whole_run(tmp_path, hook):
    # Such an epoch has no second start: Lightning calls `on_train_epoch_start` for the next one only, if at all.
    strategy = FreezingStrategy(
        freeze_depth=0, unfreeze_epoch=1, epochs_per_group=1, head_lr=0.05, lr_growth=2, warmup_steps=4, l2_sp=0.1
    )

    class Save(Callback):
        pass

    def save(self, trainer, *_):
        trainer.save_checkpoint(tmp_path / f"{trainer.global_step}.ckpt")

    setattr(Save, hook, save)
    whole, rates = Same(strategy), Rates()
    options = {"epochs": 4, "val_check_interval": 1 / 3, "num_sanity_val_steps": 0}
    trainer(FreezingCallback(strategy), rates, Save(), **options).fit(whole)
    found = sorted(tmp_path.glob("*.ckpt"))
    assert len(found) == 12
    for checkpoint in found:
        resumed, again = Same(strategy), Rates()
        trainer(FreezingCallback(strategy), again, **options).fit(resumed, ckpt_path=checkpoint)
        assert again.seen == rates.seen[len(rates.seen) - len(again.seen) :]
        for name, tensor in whole.state_dict().items():
            assert torch.equal(tensor, resumed.state_dict()[name]), (checkpoint.name, name)


def test_a_model_in_eval_mode_trains_where_unfrozen():
    strategy = FreezingStrategy(freeze_depth=1, head_lr=0.05)
    module = Module(strategy)
    module.eval()
    trainer(FreezingCallback(strategy), epochs=1).fit(module, loader())
    assert [stage.training for stage in module.backbone] == [False, True, True]
    assert module.head.training


def test_parts_may_have_other_names():
    strategy = FreezingStrategy(freeze_depth=2)

    class Renamed(Module):
        def __init__(self, strategy):
            super().__init__(strategy)
            self.net = nn.ModuleDict({"body": self.backbone, "top": self.head})

    module = Renamed(strategy)
    callback = FreezingCallback(strategy, backbone="net.body", head="net.top", groups=["0.*", "1.*", "2.*"])
    trainer(callback, epochs=1).fit(module, loader())
    assert [p.requires_grad for p in module.backbone[0].parameters()] == [False] * 4


@pytest.mark.parametrize("hook", ["setup", "configure_model"])
def test_parts_may_be_built_in_a_hook_of_the_module(hook):
    strategy = FreezingStrategy(freeze_depth=1, unfreeze_epoch=1, head_lr=0.05)

    class Late(Module):
        def __init__(self, strategy):
            super().__init__(strategy)
            self.later = [(name, self._modules.pop(name)) for name in ("backbone", "head")]

        def build(self, stage=None):
            while self.later:
                self.add_module(*self.later.pop())

    setattr(Late, hook, Late.build)
    watch = Watch(strategy.schedule(3, EPOCHS))
    trainer(FreezingCallback(strategy), watch).fit(Late(strategy), loader())
    assert watch.seen[-1] == (False, True, True)


def test_rate_monitor_shows_each_steps_rates(tmp_path):
    strategy = FreezingStrategy(freeze_depth=2, unfreeze_epoch=1, warmup_steps=3, backbone_lr_ratio=1, head_lr=0.04)
    monitor = LearningRateMonitor(logging_interval="step")
    options = {"logger": CSVLogger(tmp_path), "log_every_n_steps": 1, "epochs": 3}
    trainer(FreezingCallback(strategy), monitor, **options).fit(Module(strategy), loader())
    shown = {name.rpartition("/")[2]: rates for name, rates in monitor.lrs.items()}
    assert shown["2"] == pytest.approx([0, 0, 0.01, 0.02, 0.03, 0.04])
    assert shown["head"] == pytest.approx([0.04] * 6)


# -- what Lightning's BackboneFinetuning gets wrong ----------------------------------


def test_parameters_of_equal_values_stay_apart():
    # Lightning compares by value, so an equal bias or norm of a later group would never train.
    strategy = FreezingStrategy(freeze_depth=0, unfreeze_epoch=1, epochs_per_group=1, head_lr=0.05)
    module = Module(strategy)
    for stage in module.backbone[1:]:
        stage.load_state_dict(module.backbone[0].state_dict())
    watch = Watch(strategy.schedule(3, EPOCHS))
    trainer(FreezingCallback(strategy), watch).fit(module, loader())
    assert watch.seen[-1] == (True, True, True)


def test_a_continued_fit_keeps_unfrozen_groups():
    strategy = FreezingStrategy(freeze_depth=0, unfreeze_epoch=2, head_lr=0.05)
    watch = Watch(strategy.schedule(3, EPOCHS))
    run = trainer(FreezingCallback(strategy), watch, epochs=4)
    module = Module(strategy)
    run.fit(module, loader())
    run.fit_loop.max_epochs = EPOCHS
    run.fit(module, loader())
    assert watch.seen == [strategy.schedule(3).trainable(epoch) for epoch in range(EPOCHS)]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_users_own_scheduler_is_unaffected(name):
    # Lightning's doubles the backbone's rate over any scheduler, and some crash when a group joins late.
    strategy = FreezingStrategy(freeze_depth=0, unfreeze_epoch=2, epochs_per_group=1, head_lr=0.05)
    rates = Rates()
    trainer(FreezingCallback(strategy), rates).fit(Scheduled(strategy, name), loader())
    [optimizer], [entry] = Scheduled(strategy, name).configure_optimizers()
    expected = []
    for _ in range(2 * EPOCHS):
        expected.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        entry["scheduler"].step()
    assert rates.seen == expected
