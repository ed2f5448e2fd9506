"""A zoo of backbones to cut, each with inputs for it: own ones, torchvision's, timm's and transformers'."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, relu
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torchvision import models
from torchvision.models.convnext import CNBlockConfig

from search.models.builtin import StackedLSTM, lenet, small_cnn
from search.models.huggingface import TextEncoder
from search.models.torchvision_models import _headless


def block(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    layers = [nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Dropout(0.3))


class UNet(nn.Module):
    """Skip connections over all groups: several values are live at once, at the first boundaries the image too."""

    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.bottom = block(1, 4), block(4, 8, stride=2), block(8, 8, stride=2)
        self.up2, self.up1 = block(16, 8), block(12, 4)

    def forward(self, x):
        one = self.down1(x)
        two = self.down2(one)
        y = nn.functional.interpolate(self.bottom(two), scale_factor=2)
        y = nn.functional.interpolate(self.up2(torch.cat([y, two], 1)), scale_factor=2)
        return (self.up1(torch.cat([y, one], 1)) * x).flatten(2).mean(2)


class InPlace(nn.Module):
    """Each group begins by writing into the result of the group before it."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(1, 4, 3)
        self.two, self.three = (nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3)) for _ in range(2))

    def forward(self, x):
        x = self.two(self.one(x)).mul_(2)
        x.sub_(1)
        return self.three(x).add_(1).mean((2, 3))


class OwnDropout(nn.Module):
    """Code of its own that asks for the mode, and a container that does: frozen, it drops nothing any more."""

    patterns = ("encoder.one.*", "encoder.two.*", "three.*", "four.*")

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            x = dropout(self.one(x), 0.5, self.training)
            return dropout(self.two(x), 0.5, self.training)

    def __init__(self):
        super().__init__()
        self.encoder, self.three, self.four = self.Encoder(), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return dropout(self.four(relu(self.three(self.encoder(x)))), 0.5, self.training)


class LateDropout(nn.Module):
    """A dropout that trains with the layer that it stands before."""

    patterns = ("one.*", "two.*", "three.*")  # so its place is where it is registered

    def __init__(self):
        super().__init__()
        self.one, self.two, self.drop, self.three = nn.Linear(8, 8), nn.Linear(8, 8), nn.Dropout(), nn.Linear(8, 8)

    def forward(self, x):
        return self.three(self.two(self.drop(self.one(x))))


class Flattened(nn.Module):
    """Estimate its first two groups, and between the next, examples do not come first for a while."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        flat = self.two(self.one(x.unflatten(1, (2, 4)).repeat(1, 1, 2)).reshape(-1, 8))
        return self.three(flat.relu().view(x.size(0), -1, 8)).mean(1)


class Recurrent(nn.Module):
    """A user's RNN, called as `call` says, (N, T, 3) -> (N, F)."""

    def __init__(self, call: Callable, kind: type[nn.RNNBase] = nn.LSTM, **options):
        super().__init__()
        self.stem = nn.Conv1d(3, 4, 3, padding=1)
        self.rnn = kind(4, 6, num_layers=3, **options)
        self.call = call

    def forward(self, x):
        return self.call(self.rnn, self.stem(x.transpose(1, 2)).transpose(1, 2))


class OneByOne(nn.Module):
    """RNNs in a row, packed from the first to the last."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = (nn.GRU(c, 5, batch_first=True) for c in (3, 5, 5))

    def forward(self, inputs):
        lengths = inputs["lengths"].cpu()
        series = pack_padded_sequence(inputs["values"], lengths, batch_first=True, enforce_sorted=False)
        for layer in (self.one, self.two, self.three):
            series, _ = layer(series)
        padded, lengths = pad_packed_sequence(series, batch_first=True)
        return padded[torch.arange(lengths.size(0)), lengths - 1]


class Swish(nn.Module):
    def forward(self, x):
        return x * x.sigmoid()


class Looking(nn.Module):
    """Code that looks at its values; a layer runs twice, all share a module."""

    def __init__(self):
        super().__init__()
        swish = Swish()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), swish, nn.Dropout(0.3)) for _ in range(4))

    def forward(self, x):
        for layer in (self.layers[0], *self.layers):
            if not torch.isfinite(x).all():
                raise ValueError("infinite")
            x = relu(layer(x))
        return x


def encoder(kind: str = "Bert", **options) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    names = {
        "DistilBert": {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32},
        "GPT2": {"n_embd": 16, "n_layer": 3, "n_head": 2, "bos_token_id": 1, "eos_token_id": 2},
    }
    usual = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    config = getattr(transformers, f"{kind}Config")(vocab_size=50, **names.get(kind, usual), **options)
    model = transformers.AutoModel.from_config(config)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return TextEncoder(model.float(), pooling="mean")


def images(size: int, *, channels: int = 3) -> Callable[[], Tensor]:
    return lambda: torch.randn(4, channels, size, size)


def vectors() -> Tensor:
    return torch.randn(4, 8)


def series() -> Tensor:
    return torch.randn(4, 7, 3)


def cut_series() -> dict[str, Tensor]:
    return {"values": torch.randn(4, 7, 3), "lengths": torch.tensor([5, 7, 2, 6])}


def texts() -> dict[str, Tensor]:
    mask = (torch.arange(9) < torch.tensor([[5], [7], [3], [8]])).long()  # none as long as they are padded
    return {"input_ids": torch.randint(3, 50, (4, 9)) * mask, "attention_mask": mask}


def torchvision(name: str, **options) -> Callable[[], nn.Module]:
    if name in ("inception_v3", "googlenet"):
        options |= {"transform_input": True, "init_weights": False}
    return lambda: _headless(models.get_model(name, weights=None, **options))


def timm(name: str, **options) -> Callable[[], nn.Module]:
    return lambda: pytest.importorskip("timm").create_model(name, num_classes=0, **options)


def top(rnn, x):
    _, (h, c) = rnn(x)
    return torch.cat([h[-1], c[0]], 1)


def time_first(rnn, x):
    return rnn(x.transpose(0, 1))[1].permute(1, 0, 2).flatten(1)


FAST = {
    "small_cnn": (small_cnn, images(8, channels=1)),
    "lenet": (lenet, images(28, channels=1)),
    "unet": (UNet, images(8, channels=1)),
    "in place": (InPlace, images(8, channels=1)),
    "own dropout": (OwnDropout, vectors),
    "late dropout": (LateDropout, vectors),
    "flattened": (Flattened, vectors),
    "looking": (Looking, vectors),
    "lstm": (lambda: StackedLSTM(input_size=3, dropout=0.3), cut_series),
    "lstm, both ways": (lambda: StackedLSTM(input_size=3, bidirectional=True, proj_size=5), series),
    "rnns in a row": (OneByOne, cut_series),
    "lstm, last state": (lambda: Recurrent(top, batch_first=True, dropout=0.3), series),
    "gru, time first": (lambda: Recurrent(time_first, nn.GRU, bidirectional=True), series),
    "vit": (lambda: _headless(models.VisionTransformer(16, 8, 3, 2, 8, 16, dropout=0.1, num_classes=2)), images(16)),
    "convnext": (
        lambda: _headless(models.ConvNeXt([CNBlockConfig(8, 8 if i < 3 else None, 1) for i in range(4)], 0.5)),
        images(32),
    ),
    "bert": (encoder, texts),
    "gpt2": (lambda: encoder("GPT2"), texts),
    "deberta": (
        lambda: encoder("DebertaV2", relative_attention=True, position_buckets=4, norm_rel_ebd="layer_norm"),
        texts,
    ),
}
"""How a backbone is made, and inputs for it."""
SLOW = {name: (torchvision(name), images(64)) for name in ("resnet18", "mobilenet_v3_small", "densenet121")}
MORE = "resnet50 efficientnet_b0 swin_t vgg11_bn mobilenet_v2 convnext_tiny regnet_y_400mf googlenet shufflenet_v2_x1_0"
SOAK = {
    **{name: (torchvision(name), images(64)) for name in MORE.split()},
    "inception_v3": (torchvision("inception_v3"), images(96)),
    "vit_b_16": (torchvision("vit_b_16", image_size=64), images(64)),
    **{f"timm/{name}": (timm(name), images(64)) for name in ("resnet18", "convnext_atto", "efficientnet_b0")},
    "timm/vit": (timm("vit_tiny_patch16_224", img_size=64), images(64)),
    "timm/swin": (timm("swin_tiny_patch4_window7_224", img_size=64), images(64)),
    **{f"hf/{n}": (lambda n=n: encoder(n), texts) for n in ("DistilBert", "Roberta", "Electra", "Albert", "MPNet")},
}
ALL = [
    *FAST,
    *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW),
    *(pytest.param(name, marks=pytest.mark.soak) for name in SOAK),
]
