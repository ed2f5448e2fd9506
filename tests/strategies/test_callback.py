"""What a strategy promises of a Lightning run, over random schedules and a network with norm and dropout."""

import copy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, StochasticWeightAveraging
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, CyclicLR, LambdaLR, OneCycleLR, StepLR
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from strategies import FreezingCallback, FreezingStrategy, layer_groups, param_groups

EPOCHS = 6


def stage():
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.3))


class Module(LightningModule):
    """Somebody's own module: it knows nothing of Frostline but `param_groups`."""

    def __init__(self, strategy):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(stage(), stage(), stage())
        self.head = nn.Linear(4, 2)
        self.strategy = strategy

    def training_step(self, batch, index):
        inputs, targets = batch
        loss = nn.functional.cross_entropy(self.head(self.backbone(inputs)), targets)
        self.losses = [*getattr(self, "losses", []), loss.item()]
        return loss

    def validation_step(self, batch, index):
        self.log("val_loss", nn.functional.cross_entropy(self.head(self.backbone(batch[0])), batch[1]))

    def configure_optimizers(self):
        return AdamW(param_groups(self.backbone, self.head, self.strategy), weight_decay=0.1)


def loader():
    generator = torch.Generator().manual_seed(1)
    data = TensorDataset(torch.randn(8, 4, generator=generator), torch.arange(8) % 2)
    return DataLoader(data, batch_size=4)


def trainer(*callbacks, epochs=EPOCHS, **options):
    lean = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(max_epochs=epochs, callbacks=list(callbacks), **(lean | options))


class Watch(Callback):
    """Compares, after every epoch, what changed with what the schedule says."""

    def __init__(self, schedule):
        self.schedule = schedule
        self.seen = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.before = {name: tensor.clone() for name, tensor in pl_module.backbone.state_dict().items()}

    def on_train_epoch_end(self, trainer, pl_module):
        expected = self.schedule.trainable(trainer.current_epoch)
        after = pl_module.backbone.state_dict()
        for group, trains in enumerate(expected):
            names = [name for name in after if name.startswith(f"{group}.")]
            changed = [not torch.equal(self.before[name], after[name]) for name in names]
            assert all(changed) if trains else not any(changed), (trainer.current_epoch, group, names)
        requires = [all(p.requires_grad for p in g.parameters) for g in layer_groups(pl_module.backbone)]
        assert requires == list(expected)
        self.seen.append(expected)


strategies = st.builds(
    FreezingStrategy,
    freeze_depth=st.integers(0, 3),
    unfreeze_epoch=st.integers(0, EPOCHS),
    epochs_per_group=st.integers(0, 3),
    layer_lr_decay=st.sampled_from([1.0, 0.5]),
    head_lr=st.just(0.05),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(strategies)
def test_what_changed_is_what_the_schedule_names_and_nothing_else(strategy):
    schedule = strategy.schedule(3, EPOCHS)
    watch, module = Watch(schedule), Module(strategy)
    run = trainer(FreezingCallback(strategy), watch)
    run.fit(module, loader(), loader())
    assert len(watch.seen) == EPOCHS
    state = run.optimizers[0].state
    for group, thaw in zip(layer_groups(module.backbone), schedule.thaw_epochs, strict=True):
        assert all((p in state) == (thaw is not None) for p in group.parameters), "no state for what never trained"


@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_resuming_in_any_phase_equals_the_uninterrupted_run_to_the_bit(tmp_path, stop_after):
    # Lightning's own BackboneFinetuning stays frozen for good here (#21901).
    strategy = FreezingStrategy(freeze_depth=0, unfreeze_epoch=2, epochs_per_group=1, head_lr=0.05)
    torch.manual_seed(7)
    whole = Module(strategy)

    class Reseed(Callback):  # dropout's random stream is no part of a checkpoint
        def on_train_batch_start(self, trainer, pl_module, batch, index):
            torch.manual_seed(100 + trainer.global_step)

    class Save(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch}.ckpt")

    trainer(FreezingCallback(strategy), Reseed(), Save()).fit(whole, loader(), loader())
    resumed = Module(strategy)
    checkpoint = tmp_path / f"{stop_after - 1}.ckpt"
    trainer(FreezingCallback(strategy), Reseed()).fit(resumed, loader(), loader(), ckpt_path=checkpoint)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


class Same(Module):
    """Its batches are all the same, for Lightning reads its data from the start again midway through an epoch."""

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
def test_resuming_midway_through_an_epoch_equals_the_uninterrupted_run(tmp_path, hook):
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


def test_a_second_fit_starts_clean():
    strategy = FreezingStrategy(freeze_depth=1, unfreeze_epoch=3, head_lr=0.05)
    callback, module = FreezingCallback(strategy), Module(strategy)
    trainer(callback).fit(module, loader(), loader())
    watch = Watch(strategy.schedule(3, EPOCHS))
    trainer(callback, watch).fit(module, loader(), loader())
    assert watch.seen[0] == (False, False, False)


def test_a_model_that_enters_in_eval_trains_where_it_is_thawed():
    strategy = FreezingStrategy(freeze_depth=1, head_lr=0.05)
    module = Module(strategy)
    module.eval()
    trainer(FreezingCallback(strategy), epochs=1).fit(module, loader())
    assert [stage.training for stage in module.backbone] == [False, True, True]
    assert module.head.training


def test_an_optimizer_that_lacks_what_will_thaw_is_refused():
    class HeadAlone(Module):
        def configure_optimizers(self):
            return AdamW(self.head.parameters())

    strategy = FreezingStrategy(freeze_depth=0, unfreeze_epoch=2)
    with pytest.raises(MisconfigurationException, match=r"'0' thaws at epoch 2, but the optimizer does not hold"):
        trainer(FreezingCallback(strategy)).fit(HeadAlone(strategy), loader())


def test_an_optimizer_may_leave_out_what_does_not_require_gradients():
    class Filtered(Module):
        def configure_optimizers(self):
            return AdamW([p for p in self.parameters() if p.requires_grad], lr=0.05)

    strategy = FreezingStrategy(freeze_depth=1, unfreeze_epoch=2)
    watch = Watch(strategy.schedule(3, EPOCHS))
    trainer(FreezingCallback(strategy), watch).fit(Filtered(strategy), loader())
    assert watch.seen[-1] == (False, True, True)


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


def test_a_part_that_is_not_there_is_named():
    strategy = FreezingStrategy(freeze_depth=1)
    message = r"Module has no module 'encoder'; .* takes the names of two of its own: backbone, head\."
    with pytest.raises(MisconfigurationException, match=message):
        trainer(FreezingCallback(strategy, backbone="encoder")).fit(Module(strategy), loader())


# -- what Lightning's BackboneFinetuning gets wrong, and what is right here ----------------------------------


def test_frozen_batch_norm_neither_trains_nor_uses_the_batchs_statistics():
    # Lightning #15063, #21531. The features of a frozen part are a constant of the example, in training as well.
    strategy = FreezingStrategy(freeze_depth=2, head_lr=0.05)
    module = Module(strategy)
    frozen = module.backbone[:2]
    inputs = torch.randn(8, 4)
    expected = frozen.eval()(inputs)

    class Compare(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, index):
            assert torch.equal(frozen(inputs), expected)

    trainer(FreezingCallback(strategy), Compare(), epochs=2).fit(module, loader())
    assert torch.equal(frozen(inputs), expected)


def test_parameters_of_equal_values_are_not_taken_for_one_another():
    # Lightning compares by value, so an equal bias or norm of a later group would never train.
    strategy = FreezingStrategy(freeze_depth=0, unfreeze_epoch=1, epochs_per_group=1, head_lr=0.05)
    module = Module(strategy)
    for stage in module.backbone[1:]:
        stage.load_state_dict(module.backbone[0].state_dict())
    watch = Watch(strategy.schedule(3, EPOCHS))
    trainer(FreezingCallback(strategy), watch).fit(module, loader())
    assert watch.seen[-1] == (True, True, True)


def test_a_fit_that_goes_on_keeps_what_has_thawed():
    strategy = FreezingStrategy(freeze_depth=0, unfreeze_epoch=2, head_lr=0.05)
    watch = Watch(strategy.schedule(3, EPOCHS))
    run = trainer(FreezingCallback(strategy), watch, epochs=4)
    module = Module(strategy)
    run.fit(module, loader())
    run.fit_loop.max_epochs = EPOCHS
    run.fit(module, loader())
    assert watch.seen == [strategy.schedule(3).trainable(epoch) for epoch in range(EPOCHS)]


SCHEDULERS = {
    "LambdaLR": lambda optimizer: LambdaLR(optimizer, lambda step: 0.9**step),
    "OneCycleLR": lambda optimizer: OneCycleLR(optimizer, [g["lr"] for g in optimizer.param_groups], total_steps=13),
    "CyclicLR": lambda optimizer: CyclicLR(optimizer, 1e-4, 1e-2, step_size_up=3),
    "CosineAnnealingWarmRestarts": lambda optimizer: CosineAnnealingWarmRestarts(optimizer, 4),
    "StepLR": lambda optimizer: StepLR(optimizer, 2),
}


class Scheduled(Module):
    def __init__(self, strategy, name):
        super().__init__(strategy)
        self.name = name

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        return [optimizer], [{"scheduler": SCHEDULERS[self.name](optimizer), "interval": "step"}]


class Rates(Callback):
    """The learning rates with which each step is taken."""

    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen.append([group["lr"] for group in optimizer.param_groups])


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_of_the_users_own_runs_as_if_nothing_froze(name):
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


# -- learning rates that the strategy moves --------------------------------------------------------------


def test_a_monitor_that_stands_after_the_callback_shows_the_rates(tmp_path):
    strategy = FreezingStrategy(freeze_depth=2, unfreeze_epoch=1, warmup_steps=3, backbone_lr_ratio=1, head_lr=0.04)
    monitor = LearningRateMonitor(logging_interval="step")
    options = {"logger": CSVLogger(tmp_path), "log_every_n_steps": 1, "epochs": 3}
    trainer(FreezingCallback(strategy), monitor, **options).fit(Module(strategy), loader())
    shown = {name.rpartition("/")[2]: rates for name, rates in monitor.lrs.items()}
    assert shown["2"] == pytest.approx([0, 0, 0.01, 0.02, 0.03, 0.04])
    assert shown["head"] == pytest.approx([0.04] * 6)


MOVED = FreezingStrategy(freeze_depth=0, warmup_steps=3, scheduler="cosine")


def test_two_masters_of_the_learning_rates_are_refused():
    with pytest.raises(MisconfigurationException, match="and so does the module's own LambdaLR: keep one of the two"):
        trainer(FreezingCallback(MOVED)).fit(Scheduled(MOVED, "LambdaLR"), loader())


def test_rates_that_move_apart_need_parameter_groups_of_their_own():
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
    [({"freeze_depth": 1}, True), ({"scheduler": "cosine"}, True), ({"batch_norm": "still"}, True), ({}, False)],
)
def test_an_averaging_that_loses_frozen_statistics_or_moves_rates_is_refused(fields, refused):
    strategy = FreezingStrategy(**{"freeze_depth": 0} | fields)
    run = trainer(FreezingCallback(strategy), StochasticWeightAveraging(swa_lrs=1e-3), epochs=2)
    if refused:
        with pytest.raises(MisconfigurationException, match="loses the statistics of frozen batch norms and moves"):
            run.fit(Module(strategy), loader())
    else:
        run.fit(Module(strategy), loader())


# -- L2-SP -----------------------------------------------------------------------------------------------


class Drift(Callback):
    """Moves the backbone away by 1 before the second epoch, and writes down how far off it is after each."""

    def __init__(self, start, *, file=None):
        self.start, self.file, self.seen = start, file, []

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            with torch.no_grad():
                pl_module.backbone[0].weight += 1

    def on_train_epoch_end(self, trainer, pl_module):
        self.seen.append((pl_module.backbone[0].weight - self.start).mean().item())
        if self.file is not None and trainer.current_epoch == 1:
            trainer.save_checkpoint(self.file)


class Idle(Module):
    """Its loss has no gradient, so that only what pulls moves anything."""

    def __init__(self, strategy):
        super().__init__(strategy)
        self.backbone = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))

    def training_step(self, batch, index):
        return 0.0 * self.head(self.backbone(batch[0])).sum()

    def configure_optimizers(self):
        return SGD(param_groups(self.backbone, self.head, self.strategy), weight_decay=0.1)


def test_l2_sp_pulls_to_where_the_fit_started_and_a_checkpoint_knows_where_that_was(tmp_path):
    strategy = FreezingStrategy(freeze_depth=0, backbone_lr_ratio=1, head_lr=0.5, l2_sp=0.4)
    module = Idle(strategy)
    start = module.backbone[0].weight.detach().clone()
    drift = Drift(start, file=tmp_path / "1.ckpt")
    callback = FreezingCallback(strategy)
    trainer(callback, drift, epochs=3).fit(module, loader())
    # Two steps an epoch, each leaves 1 - 0.5 * 0.4 of the way; no weight decay beside it.
    assert drift.seen == pytest.approx([0, 0.8**2, 0.8**4], abs=1e-5)
    again = Drift(start)
    resumed = trainer(FreezingCallback(strategy), again, epochs=3)
    resumed.fit(Idle(strategy), loader(), ckpt_path=tmp_path / "1.ckpt")
    assert again.seen == drift.seen[2:]
    once_more = Drift(module.backbone[0].weight.detach().clone())
    trainer(callback, once_more, epochs=2).fit(module, loader())
    assert once_more.seen == pytest.approx([0, 0.8**2], abs=1e-5), "a second fit starts from where it starts"


def test_checkpoints_carry_the_start_only_where_something_is_pulled_to_it():
    assert FreezingCallback(FreezingStrategy(freeze_depth=0)).state_dict() == {}
    assert FreezingCallback(FreezingStrategy(freeze_depth=0, pretrained=False, l2_sp=0.1)).state_dict() == {}


def test_l2_sp_is_scaled_with_gradients_that_the_optimizer_unscales():
    strategy = FreezingStrategy(freeze_depth=0, l2_sp=0.5)
    callback, parameter = FreezingCallback(strategy), nn.Parameter(torch.full((2,), 3.0))
    callback._pulled, callback._start = {"w": parameter}, {"w": torch.full((2,), 1.0)}
    optimizer = SGD([parameter], lr=1.0)
    half = SimpleNamespace(precision_plugin=SimpleNamespace(scaler=SimpleNamespace(get_scale=lambda: 8.0)))
    for unscales, expected in ((False, 1.0), (True, 8.0)):
        optimizer._step_supports_amp_scaling = unscales
        parameter.grad = torch.zeros(2)
        callback.on_before_optimizer_step(half, None, optimizer)
        assert parameter.grad.tolist() == [expected, expected]


# -- refused before training -----------------------------------------------------------------------------


def test_nothing_to_train_in_what_thaws_is_refused():
    strategy = FreezingStrategy(freeze_depth=0, parameters="norm", batch_norm="still")
    with pytest.raises(MisconfigurationException, match="'norm' with `batch_norm` = 'still' leaves the backbone"):
        trainer(FreezingCallback(strategy)).fit(Module(strategy), loader())


def test_norms_alone_may_thaw_where_there_are_none():
    strategy = FreezingStrategy(freeze_depth=2, parameters="norm")
    module = Module(strategy)
    module.backbone[2] = nn.Linear(4, 4)
    start = copy.deepcopy(module.backbone.state_dict())
    trainer(FreezingCallback(strategy), epochs=1).fit(module, loader())
    assert all(torch.equal(tensor, start[name]) for name, tensor in module.backbone.state_dict().items())


def test_weights_tied_between_backbone_and_head_are_noticed():
    strategy = FreezingStrategy(freeze_depth=0)
    module = Module(strategy)
    module.backbone.append(nn.Linear(4, 2))
    module.head = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 2))
    module.head[0].weight = module.backbone[3].weight
    with pytest.raises(ValueError, match=r"shared between backbone and head: 3\.weight"):
        trainer(FreezingCallback(strategy)).fit(module, loader())


def test_sharded_training_is_refused(monkeypatch):
    strategy = FreezingStrategy(freeze_depth=0)
    run = trainer()
    monkeypatch.setattr(run._accelerator_connector, "strategy", FSDPStrategy())
    with pytest.raises(MisconfigurationException, match="a single device and under DDP, not under FSDPStrategy"):
        FreezingCallback(strategy).setup(run, Module(strategy), "fit")
