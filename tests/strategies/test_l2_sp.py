"""L2-SP: the pull to where a fit started."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn
from torch.optim import SGD

from strategies import FreezingCallback, FreezingStrategy, param_groups
from tests.strategies.learner import Module, loader, trainer


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


def test_l2_sp_pulls_to_the_start_of_the_fit(tmp_path):
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


def test_checkpoints_hold_the_start_only_for_l2_sp():
    assert FreezingCallback(FreezingStrategy(freeze_depth=0)).state_dict() == {}
    assert FreezingCallback(FreezingStrategy(freeze_depth=0, pretrained=False, l2_sp=0.1)).state_dict() == {}


def test_l2_sp_is_scaled_with_scaled_gradients():
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
