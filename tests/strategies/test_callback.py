"""What a strategy promises of a Lightning run, over random schedules and a network with norm and dropout."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import AdamW
from torch.utils.data import DataLoader, TensorDataset

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


def trainer(*callbacks, epochs=EPOCHS):
    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


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
    class Filtered(Module):
        def configure_optimizers(self):
            return AdamW([p for p in self.parameters() if p.requires_grad])

    strategy = FreezingStrategy(freeze_depth=0, unfreeze_epoch=2)
    with pytest.raises(MisconfigurationException, match=r"'0' thaws at epoch 2, but the optimizer does not hold"):
        trainer(FreezingCallback(strategy)).fit(Filtered(strategy), loader())


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
