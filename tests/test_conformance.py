"""One run of every backbone under every strategy, checked at every step and resumed in every phase.

A backbone is a row of `BACKBONES`, a strategy a row of `STRATEGIES`.
"""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import AdamW
from torch.utils.data import DataLoader, TensorDataset
from torchvision import models

from strategies import FreezingCallback, FreezingStrategy, layer_groups, param_groups

EPOCHS, STEPS, BATCH = 3, 2, 4


# -- backbones -------------------------------------------------------------------------------------------


class Features(nn.Module):
    """A network whose features are some part of what it returns."""

    def __init__(self, net: nn.Module, read: Callable[..., Tensor]) -> None:
        super().__init__()
        self.net, self.read = net, read

    def forward(self, inputs: Tensor) -> Tensor:
        return self.read(self.net(inputs))


def without(head: str, net: nn.Module) -> nn.Module:
    setattr(net, head, nn.Identity())
    return net


def lenet() -> nn.Module:
    convolutions = [nn.Conv2d(1, 4, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(4, 8, 3), nn.Tanh(), nn.AvgPool2d(2)]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 8), nn.Tanh())


def norms_and_dropout() -> nn.Module:
    def stage() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.3))

    return nn.Sequential(stage(), stage(), nn.Dropout(0.2), stage(), nn.LayerNorm(4))


def vit() -> nn.Module:
    options = {"image_size": 32, "patch_size": 8, "num_layers": 3, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
    return without("heads", models.VisionTransformer(**options, dropout=0.1, attention_dropout=0.1))


def densenet() -> nn.Module:
    return without("classifier", models.DenseNet(4, (1, 1, 1), num_init_features=8, drop_rate=0.2))


def recurrent(kind: type[nn.RNNBase], **options: object) -> nn.Module:
    return Features(kind(3, 6, num_layers=3, dropout=0.4, batch_first=True, **options), lambda out: out[0][:, -1])


def bert() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = transformers.BertConfig(**sizes, intermediate_size=32, max_position_embeddings=8)
    return Features(transformers.BertModel(config, add_pooling_layer=False), lambda out: out.last_hidden_state[:, 0])


def timm_vit() -> nn.Module:
    timm = pytest.importorskip("timm")
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2}
    return timm.models.VisionTransformer(**sizes, num_classes=0, drop_path_rate=0.1, proj_drop_rate=0.1)


def small_cnn() -> nn.Module:
    from search.models.builtin import small_cnn

    return small_cnn()


def images(channels: int, side: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(STEPS * BATCH, channels, side, side)


def steps_of_time() -> Tensor:
    return torch.randn(STEPS * BATCH, 5, 3)


SMALL: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "small_cnn": (small_cnn, images(1, 8)),
    "LeNet": (lenet, images(1, 16)),
    "norms and dropout": (norms_and_dropout, lambda: torch.randn(STEPS * BATCH, 4)),
    "LSTM": (lambda: recurrent(nn.LSTM, bidirectional=True, proj_size=2), steps_of_time),
    "GRU": (lambda: recurrent(nn.GRU), steps_of_time),
    "ViT": (vit, images(3, 32)),
}
LARGE: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "ResNet-18": (lambda: without("fc", models.resnet18()), images(3, 32)),
    "MobileNetV2": (lambda: without("classifier", models.mobilenet_v2(width_mult=0.25)), images(3, 32)),
    "DenseNet": (densenet, images(3, 32)),
    "EfficientNet-B0": (lambda: without("classifier", models.efficientnet_b0()), images(3, 32)),
    "BERT": (bert, lambda: torch.randint(20, (STEPS * BATCH, 6))),
    "timm ViT": (timm_vit, images(3, 32)),
}
BACKBONES = SMALL | LARGE

# -- strategies: the number of layer groups -> a strategy ------------------------------------------------

GRADUAL = {"epochs_per_group": 1, "layer_lr_decay": 0.5}
STRATEGIES: dict[str, Callable[[int], FreezingStrategy]] = {
    "linear probing": lambda groups: FreezingStrategy(freeze_depth=groups),
    "partial freezing": lambda groups: FreezingStrategy(freeze_depth=groups - 1),
    "full fine-tuning": lambda groups: FreezingStrategy(freeze_depth=0),
    "freeze-then-unfreeze": lambda groups: FreezingStrategy(freeze_depth=0, unfreeze_epoch=1),
    "gradual unfreezing": lambda groups: FreezingStrategy(freeze_depth=0, **GRADUAL),
    "from scratch": lambda groups: FreezingStrategy.from_scratch(),
    "growth": lambda groups: FreezingStrategy(freeze_depth=1, unfreeze_epoch=1, lr_growth=3),
    "warm-up": lambda groups: FreezingStrategy(freeze_depth=groups // 2, unfreeze_epoch=1, warmup_steps=3),
    "cosine": lambda groups: FreezingStrategy(freeze_depth=groups, scheduler="cosine"),
    "linear": lambda groups: FreezingStrategy(freeze_depth=1, scheduler="linear", **GRADUAL),
    "norms": lambda groups: FreezingStrategy(freeze_depth=0, unfreeze_epoch=1, parameters="norm"),
    "biases": lambda groups: FreezingStrategy(freeze_depth=0, parameters="bias", **GRADUAL),
    "still batch norm": lambda groups: FreezingStrategy(freeze_depth=1, unfreeze_epoch=1, batch_norm="frozen"),
    "L2-SP": lambda groups: FreezingStrategy(freeze_depth=0, unfreeze_epoch=1, l2_sp=0.1),
    "all at once": lambda groups: FreezingStrategy(
        freeze_depth=0, lr_growth=2, warmup_steps=3, scheduler="cosine", batch_norm="frozen", l2_sp=0.1, **GRADUAL
    ),
}


FEW = ("norms", "still batch norm", "all at once")
"""Strategies under which large backbones run outside `soak`."""
CASES = [
    *((backbone, strategy) for backbone in SMALL for strategy in STRATEGIES),
    *(
        pytest.param(backbone, strategy, marks=pytest.mark.slow if strategy in FEW else pytest.mark.soak)
        for backbone in LARGE
        for strategy in STRATEGIES
    ),
]


# -- what is expected, said a second time ----------------------------------------------------------------


def trains(backbone: nn.Module, strategy: FreezingStrategy, epochs: int, epoch: int) -> list[set[str]]:
    """Return the names of the parameters that train in an epoch, group by group."""
    found = []
    groups = layer_groups(backbone)
    for index, group in enumerate(groups):
        unfreeze = strategy.unfreeze_epoch + strategy.epochs_per_group * (len(groups) - 1 - index)
        names = set(group.parameter_names) if index >= strategy.freeze_depth and unfreeze <= epoch < epochs else set()
        found.append({name for name in names if is_chosen(backbone, name, strategy)})
    return found


def is_chosen(backbone: nn.Module, name: str, strategy: FreezingStrategy) -> bool:
    owner, _, last = name.rpartition(".")
    kind = type(backbone.get_submodule(owner)).__name__
    if strategy.batch_norm == "frozen" and "BatchNorm" in kind:
        return False
    if strategy.parameters == "bias":
        return "bias" in last and backbone.get_parameter(name).ndim == 1
    return strategy.parameters != "norm" or "Norm" in kind


def rate(strategy: FreezingStrategy, from_head: int | None, epoch: int, step: int) -> float:
    """Return the learning rate of a group that trains, counted from the head's side; None is the head."""
    done = (epoch * STEPS + step) / (EPOCHS * STEPS)
    overall = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 + 0.5 * math.cos(math.pi * done)}[strategy.scheduler]
    if from_head is None:
        return strategy.head_lr * overall
    unfreeze = strategy.unfreeze_epoch + strategy.epochs_per_group * from_head
    share = strategy.backbone_lr_ratio * strategy.layer_lr_decay**from_head
    share = min(max(1.0, share), share * strategy.lr_growth ** (epoch - unfreeze))
    warm = min(1.0, ((epoch - unfreeze) * STEPS + step + 1) / (strategy.warmup_steps + 1))
    return strategy.head_lr * share * warm * overall


class Inspector(Callback):
    """Holds a run to what is expected of it, at every step."""

    def __init__(self, strategy: FreezingStrategy) -> None:
        self.strategy = strategy
        self.ever: set[str] = set()  # trained so far
        self.first: list[set[str]] = []

    def on_train_epoch_start(self, trainer: Trainer, module: "Learner") -> None:
        backbone = module.backbone
        self.groups = layer_groups(backbone)
        self.expected = trains(backbone, self.strategy, EPOCHS, trainer.current_epoch)
        schedule = self.strategy.schedule(len(self.groups), EPOCHS)
        self.unfrozen = schedule.trainable(trainer.current_epoch)
        self.first = self.first or self.expected
        self.moved: set[str] = set()
        self.before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
        self.check_modes(module)

    def on_train_batch_start(self, trainer: Trainer, module: "Learner", batch: object, batch_idx: int) -> None:
        # A module's own hooks may freeze until the first batch.
        backbone = module.backbone
        assert {name for name, p in backbone.named_parameters() if p.requires_grad} == set().union(*self.expected)
        assert all(p.requires_grad for p in module.head.parameters())

    def check_modes(self, module: "Learner") -> None:
        assert all(part.training for part in module.head.modules())
        states: dict[nn.Module, set[bool]] = {}
        for group, unfrozen in zip(self.groups, self.unfrozen, strict=True):
            for part in group.modules:
                states.setdefault(part, set()).add(unfrozen)
        assert states.keys() == set(module.backbone.modules()), "every module has its place"
        for part, state in states.items():
            still = self.strategy.batch_norm == "frozen" and "BatchNorm" in type(part).__name__
            assert part.training == (True in state and not still), part
            if isinstance(part, nn.RNNBase) and part.training:
                assert part.dropout == (0.0 if False in state else 0.4), "no dropout while a layer is frozen"

    def on_before_optimizer_step(self, trainer: Trainer, module: "Learner", optimizer: AdamW) -> None:
        names = {parameter: name for name, parameter in module.backbone.named_parameters()}
        step = trainer.fit_loop.epoch_loop.batch_idx
        for group in optimizer.param_groups:
            owner = next((i for i, g in enumerate(self.groups) if group["params"][0] in set(g.parameters)), None)
            if owner is None or self.unfrozen[owner]:
                from_head = None if owner is None else len(self.groups) - 1 - owner
                expected = rate(self.strategy, from_head, trainer.current_epoch, step)
                assert group["lr"] == pytest.approx(expected, rel=1e-9), group["name"]
            for parameter in group["params"]:
                if parameter in names and parameter.grad is not None and parameter.grad.abs().max() > 1e-6:
                    self.moved.add(names[parameter])

    def on_train_epoch_end(self, trainer: Trainer, module: "Learner") -> None:
        after = module.backbone.state_dict()
        changed = {name for name in after if not torch.equal(self.before[name], after[name])}
        parameters = {name for name, _ in module.backbone.named_parameters()}
        expected = set().union(*self.expected)
        self.ever |= expected
        assert self.moved <= changed & parameters <= expected
        assert all(names & changed for names in self.expected if names), "every unfrozen group moves"
        held = trainer.optimizers[0].state
        assert {name for name, p in module.backbone.named_parameters() if p in held} == self.ever
        for buffer in changed - parameters:
            owner = module.backbone.get_submodule(buffer.rpartition(".")[0])
            assert owner.training, f"{buffer} belongs to something that stands still"


# -- the run ---------------------------------------------------------------------------------------------


class Learner(LightningModule):
    def __init__(self, backbone: str, strategy: FreezingStrategy) -> None:
        super().__init__()
        torch.manual_seed(0)
        build, inputs = BACKBONES[backbone]
        self.backbone = build()
        self.inputs = inputs()
        self.strategy = strategy
        with torch.no_grad():
            self.head = nn.Linear(self.backbone.eval()(self.inputs[:2]).shape[1], 2)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        torch.manual_seed(self.global_step)  # dropout's random stream is no part of a checkpoint
        return nn.functional.cross_entropy(self.head(self.backbone(batch[0])), batch[1])

    def configure_optimizers(self) -> AdamW:
        return AdamW(param_groups(self.backbone, self.head, self.strategy), weight_decay=0.1)


def fit(learner: Learner, *callbacks: Callback, checkpoint: object = None) -> None:
    data = TensorDataset(learner.inputs, torch.arange(STEPS * BATCH) % 2)
    trainer = Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(learner, DataLoader(data, batch_size=BATCH), ckpt_path=checkpoint)


def strategy_for(backbone: str, name: str) -> FreezingStrategy:
    return STRATEGIES[name](len(layer_groups(BACKBONES[backbone][0]())))


@pytest.mark.parametrize(("backbone", "name"), CASES)
def test_a_run_follows_its_schedule_and_resumes(backbone, name, tmp_path):
    strategy = strategy_for(backbone, name)

    class Save(Callback):
        def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
            if trainer.current_epoch < EPOCHS - 1:
                trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch}.ckpt")

    whole = Learner(backbone, strategy)
    if strategy.parameters == "norm" and not any("Norm" in type(m).__name__ for m in whole.backbone.modules()):
        with pytest.raises(MisconfigurationException, match="without any parameter that trains"):
            fit(whole, FreezingCallback(strategy))
        return
    start = {key: tensor.clone() for key, tensor in whole.backbone.state_dict().items()}
    inspector = Inspector(strategy)
    fit(whole, FreezingCallback(strategy), inspector, Save())
    for key, parameter in whole.backbone.named_parameters():
        assert key in inspector.ever or torch.equal(parameter, start[key])
    for epoch in range(EPOCHS - 1):
        resumed = Learner(backbone, strategy)
        fit(resumed, FreezingCallback(strategy), checkpoint=tmp_path / f"{epoch}.ckpt")
        for key, tensor in whole.state_dict().items():
            assert torch.equal(tensor, resumed.state_dict()[key]), (epoch, key)


@pytest.mark.parametrize("backbone", ["LSTM", "ViT"])
def test_a_second_fit_starts_clean(backbone):
    strategy = strategy_for(backbone, "gradual unfreezing")
    learner, callback = Learner(backbone, strategy), FreezingCallback(strategy)
    once, again = Inspector(strategy), Inspector(strategy)
    fit(learner, callback, once)
    fit(learner, callback, again)
    assert once.first == again.first


@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["norms and dropout", "LSTM"]),
    st.fixed_dictionaries(
        {"freeze_depth": st.integers(0, 3)},
        optional={
            "unfreeze_epoch": st.integers(0, EPOCHS),
            "epochs_per_group": st.integers(0, 2),
            "backbone_lr_ratio": st.floats(0.05, 2.0),
            "layer_lr_decay": st.floats(0.3, 1.0),
            "lr_growth": st.floats(1.0, 10.0),
            "warmup_steps": st.integers(0, 9),
            "scheduler": st.sampled_from(["cosine", "linear"]),
            "parameters": st.sampled_from(["bias"]),
            "batch_norm": st.just("frozen"),
            "l2_sp": st.floats(0.0, 1.0),
            "pretrained": st.booleans(),
        },
    ),
)
def test_any_strategy_follows_its_schedule(backbone, fields):
    strategy = FreezingStrategy(**fields)
    fit(Learner(backbone, strategy), FreezingCallback(strategy), Inspector(strategy))
