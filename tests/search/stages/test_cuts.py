import copy
import gc
import weakref
from collections.abc import Callable
from types import MethodType

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, relu
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torchvision import models
from torchvision.models.convnext import CNBlockConfig

from search.stages import Cuts, Resumed
from search.tasks.encoders import TextEncoder
from search.tasks.libraries import _headless
from search.tasks.networks import StackedLSTM, lenet, small_cnn
from strategies import LayerGroup, layer_groups
from strategies.thaw import set_trainable

torch.set_num_threads(1)


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
    """What each group begins with writes into what the group before it gave."""

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
    """Between its first two groups, and between the next, examples do not come first for a while."""

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


class Untraceable(nn.Module):
    """Code that looks at its values, so that symbols can't follow it; a layer runs twice, all share a module."""

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


def last(rnn, x):
    return rnn(x)[0][:, -1]


def top(rnn, x):
    _, (h, c) = rnn(x)
    return torch.cat([h[-1], c[0]], 1)


def given(rnn, x):
    state = x.new_ones(3, x.size(0), 6)
    return torch.cat(tuple(rnn(x, (state, state * 2))[1][0]), 1)


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
    "untraceable": (Untraceable, vectors),
    "lstm": (lambda: StackedLSTM(input_size=3, dropout=0.3), cut_series),
    "lstm, both ways": (lambda: StackedLSTM(input_size=3, bidirectional=True, proj_size=5), series),
    "rnns in a row": (OneByOne, cut_series),
    "rnn, last output": (lambda: Recurrent(last, nn.RNN, batch_first=True, bias=False), series),
    "lstm, last state": (lambda: Recurrent(top, batch_first=True, dropout=0.3), series),
    "lstm, first state": (lambda: Recurrent(given, batch_first=True), series),
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

SLOW = {
    name: (torchvision(name), images(64))
    for name in ("resnet18", "mobilenet_v3_small", "efficientnet_b0", "densenet121", "swin_t")
}
SOAK = {
    **{
        name: (torchvision(name), images(64))
        for name in (
            "resnet50",
            "vgg11_bn",
            "mobilenet_v2",
            "convnext_tiny",
            "regnet_y_400mf",
            "googlenet",
            "shufflenet_v2_x1_0",
        )
    },
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


class Case:
    def __init__(self, make: Callable[[], nn.Module], inputs: Callable):
        torch.manual_seed(0)
        self.backbone, self.inputs = make(), inputs()
        self.groups = self.grouped(self.backbone)
        self.cuts = Cuts.of(self.backbone, self.groups, self.inputs)

    @staticmethod
    def grouped(backbone: nn.Module) -> list[LayerGroup]:
        return layer_groups(backbone, groups=getattr(backbone, "patterns", None))

    def rows(self, where) -> Tensor | dict[str, Tensor]:
        return {k: v[where] for k, v in self.inputs.items()} if isinstance(self.inputs, dict) else self.inputs[where]

    def resumed(self, boundary: int, backbone: nn.Module, *, at_once: int = 4) -> Resumed:
        """Computed some at a time and put together, as a store does."""
        stages = self.cuts.on(backbone)
        parts = [stages.until(self.rows(slice(i, i + at_once)), boundary) for i in range(0, 4, at_once)]
        needed = self.cuts.needs_inputs(boundary)
        return Resumed(boundary, tuple(map(torch.cat, zip(*parts, strict=True))), self.inputs if needed else None)

    def frozen(self, boundary: int) -> nn.Module:
        """A copy that trains behind a boundary."""
        backbone = copy.deepcopy(self.backbone)
        groups = self.grouped(backbone)
        set_trainable(groups, [index >= boundary for index in range(len(groups))])
        return backbone


def snapshot(backbone: nn.Module) -> tuple[list[Tensor], list[object]]:
    tensors = [value.clone() for value in (*backbone.state_dict().values(), torch.get_rng_state())]
    attributes = [(name, m.training, sorted(vars(m)), *map(len, hooks(m))) for name, m in backbone.named_modules()]
    return tensors, [*attributes, *((p.requires_grad, p.grad) for p in backbone.parameters())]


def hooks(module: nn.Module) -> tuple[dict, ...]:
    return module._forward_hooks, module._forward_pre_hooks, module._backward_hooks


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return Case(*(FAST | SLOW | SOAK)[request.param])


def parametrize(names=ALL):
    return pytest.mark.parametrize("case", names, indirect=True)


@parametrize()
def test_a_backbone_is_cut_between_all_its_layer_groups(case):
    assert case.cuts.boundaries == tuple(range(1, len(case.groups) + 1))
    assert case.cuts.reason == ""


@parametrize([name for name in FAST if name not in ("untraceable", "bert", "gpt2", "deberta")])
def test_only_code_that_looks_at_its_values_takes_the_inputs_again(case):
    """And code that comes back to them."""
    taking = {boundary for boundary in case.cuts.boundaries if case.cuts.needs_inputs(boundary)}
    assert taking == ({1, 2, 3, 4} if isinstance(case.backbone, UNet) else set())


@parametrize(FAST)
def test_finding_the_cuts_leaves_the_backbone_as_it_was(case):
    tensors, attributes = snapshot(case.backbone)
    Cuts.of(case.backbone, case.groups, case.inputs)
    after, others = snapshot(case.backbone)
    assert all(map(torch.equal, tensors, after))
    assert others == attributes


@parametrize()
def test_training_behind_a_boundary_is_training_with_the_layers_before_it_frozen(case):
    """The same losses, gradients, batch-norm statistics and random numbers, step by step."""
    for boundary in case.cuts.boundaries[:-1]:
        whole, rest = case.frozen(boundary), case.frozen(boundary)
        stages, resumed = case.cuts.on(rest), case.resumed(boundary, rest)
        target = torch.randn(4, case.cuts.shapes(len(case.groups))[0][0])
        for step in range(2):
            torch.manual_seed(step)
            (whole(case.inputs) - target).square().mean().backward()
            drawn = torch.get_rng_state()
            torch.manual_seed(step)
            (stages.onward(resumed) - target).square().mean().backward()
            assert torch.equal(torch.get_rng_state(), drawn)
            largest = max(p.grad.abs().max() for p in whole.parameters() if p.grad is not None)
            for (name, one), other in zip(whole.named_parameters(), rest.parameters(), strict=True):
                assert (one.grad is None) == (other.grad is None), name
                if one.grad is not None:
                    torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-5 * float(largest), msg=name)
                    with torch.no_grad():
                        one -= 0.01 * one.grad / largest
                        other -= 0.01 * other.grad / largest
            for one, other in zip(whole.buffers(), rest.buffers(), strict=True):
                torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)


@parametrize()
def test_evaluation_from_a_boundary_gives_the_whole_backbones_features(case):
    backbone = copy.deepcopy(case.backbone).eval()
    with torch.no_grad():
        for boundary in case.cuts.boundaries:
            found, whole = (
                case.cuts.on(backbone).onward(case.resumed(boundary, backbone, at_once=1)),
                backbone(case.inputs),
            )
            torch.testing.assert_close(found, whole, rtol=0, atol=1e-4 * float(whole.abs().max()))


@parametrize(FAST)
def test_a_value_is_the_same_from_the_inputs_and_from_any_earlier_boundary(case):
    backbone = copy.deepcopy(case.backbone).eval()
    stages = case.cuts.on(backbone)
    for index, start in enumerate(case.cuts.boundaries):
        values = stages.until(case.inputs, start)
        resumed = Resumed(start, values, case.inputs if case.cuts.needs_inputs(start) else None)
        kept = [value.clone() for value in values]
        for boundary in case.cuts.boundaries[index:]:
            direct = stages.until(case.inputs, boundary)
            torch.testing.assert_close(stages.until(resumed, boundary), direct, rtol=1e-4, atol=1e-5)
            shapes, dtypes = case.cuts.shapes(boundary), case.cuts.dtypes(boundary)
            assert [(4, *shape) for shape in shapes] == [tuple(value.shape) for value in direct]
            assert list(dtypes) == [value.dtype for value in direct]
            assert not any(value.requires_grad for value in direct)
        stages.onward(resumed)
        assert all(map(torch.equal, values, kept))  # nobody writes into what is given


@parametrize(["unet", "lstm", "own dropout", "untraceable", "bert"])
def test_only_the_layers_between_two_boundaries_run(case):
    for boundary in case.cuts.boundaries[:-1]:
        backbone = copy.deepcopy(case.backbone).eval()
        resumed, stages = case.resumed(boundary, backbone), case.cuts.on(backbone)
        groups = case.grouped(backbone)
        broken = set(groups[boundary].parameters)
        with torch.no_grad():
            for parameter in broken:
                parameter.fill_(torch.nan)
        assert all(value.isfinite().all() for value in stages.until(case.inputs, boundary))
        with torch.no_grad():
            for group in groups:
                for parameter in group.parameters:
                    parameter.fill_(torch.nan if parameter not in broken and group in groups[:boundary] else 0.01)
        assert stages.onward(resumed).isfinite().all()


@parametrize(["unet", "lstm", "bert"])
def test_cuts_hold_no_tensor_of_the_backbone_and_fit_any_copy(case):
    backbone = copy.deepcopy(case.backbone)
    cuts = Cuts.of(backbone, layer_groups(backbone), case.inputs)
    tensors = [weakref.ref(tensor) for tensor in (*backbone.parameters(), *backbone.buffers())]
    del backbone
    gc.collect()
    assert not any(tensor() is not None for tensor in tensors)

    other = copy.deepcopy(case.backbone).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
        values = cuts.on(other).until(case.inputs, 1)
        features = cuts.on(other).onward(Resumed(1, values, case.inputs))
        torch.testing.assert_close(features, other(case.inputs))


def test_a_last_layers_state_keeps_no_other_layers():
    backbone = StackedLSTM(input_size=3, hidden_size=8)
    cuts = Cuts.of(backbone, layer_groups(backbone), cut_series())
    assert cuts.shapes(1) == cuts.shapes(2) == ((7, 8), ())  # the padded series and its length


def test_fewest_bytes_decide_where_between_two_groups_a_cut_lies():
    """Behind the pooling, not before it; and at the same size behind the activation."""
    backbone = small_cnn()
    cuts = Cuts.of(backbone, layer_groups(backbone), torch.randn(4, 1, 8, 8))
    assert cuts.shapes(1) == ((16, 8, 8),)
    assert cuts.shapes(2) == ((32, 4, 4),)
    values = cuts.on(backbone).until(torch.randn(4, 1, 8, 8), 1)
    assert values[0].min() >= 0


def test_the_number_of_examples_does_not_take_the_inputs():
    class Sized(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.three = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4 * 16, 5)

        def forward(self, x):
            return self.three(self.two(self.one(x)).view(x.size(0), -1))

    backbone = Sized()
    cuts = Cuts.of(backbone, layer_groups(backbone), torch.randn(4, 1, 8, 8))
    assert cuts.boundaries == (1, 2, 3)
    assert not cuts.needs_inputs(1)
    x = torch.randn(7, 1, 8, 8)  # another batch size than it was found with
    torch.testing.assert_close(cuts.on(backbone).onward(Resumed(1, cuts.on(backbone).until(x, 1), None)), backbone(x))


def test_results_are_dropped_after_their_last_use():
    """Otherwise a run through many groups would hold the activations of all."""
    alive: list[weakref.ref[Tensor]] = []

    class Watched(nn.Linear):
        def forward(self, x):
            assert all(tensor() is None or tensor() is x for tensor in alive)
            out = super().forward(x)
            alive.append(weakref.ref(out))
            return out

    backbone = nn.Sequential(*(Watched(4, 4) for _ in range(5)))
    x = torch.randn(4, 4)
    plain = nn.Sequential(*(nn.Linear(4, 4) for _ in range(5)))
    stages = Cuts.of(plain, layer_groups(plain), x).on(backbone)
    stages.until(Resumed(1, stages.until(x, 1), None), 5)
    assert len(alive) == 5


class Backwards(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        return self.one(self.two(self.three(x)))


class Mixing(Backwards):
    """Each example's value depends on the others."""

    def forward(self, x):
        return self.three(self.two(self.one(x - x.mean(0))))


class Noisy(Backwards):
    """No constant: each call gives another value."""

    def forward(self, x):
        return self.three(self.two(self.one(x) + torch.randn_like(x)))


class Leaking(Backwards):
    """A parameter of the last group has a part in the first group's value, and symbols can't follow."""

    def forward(self, x):
        assert torch.isfinite(x).all()
        return self.three(self.two(self.one(x * self.three.weight.diagonal())))


class Failing(Backwards):
    """Code that runs on no single example."""

    def forward(self, x):
        assert len(x) > 1
        return self.three(self.two(self.one(x)))


@pytest.mark.parametrize("kind", [Backwards, Leaking])
def test_where_groups_form_no_chain_only_features_are_left_and_the_reason_is_said(kind):
    backbone, x = kind(), torch.randn(4, 8)
    groups = layer_groups(backbone, groups=["one.*", "two.*", "three.*"])
    cuts = Cuts.of(backbone, groups, x)
    assert cuts.boundaries == (3,)
    assert cuts.reason
    assert not cuts.needs_inputs(3)
    stages = cuts.on(backbone)
    torch.testing.assert_close(stages.onward(Resumed(3, stages.until(x, 3), None)), backbone(x))


@pytest.mark.parametrize("kind", [Mixing, Noisy, Failing])
def test_where_features_are_no_function_of_each_example_nothing_is_left(kind):
    backbone = kind()
    cuts = Cuts.of(backbone, layer_groups(backbone, groups=["one.*", "two.*", "three.*"]), torch.randn(4, 8))
    assert cuts.boundaries == ()
    assert cuts.reason == "what it makes of an example depends on the others, or on chance"


def test_a_forward_that_stands_on_a_module_itself_is_its_own_again():
    """As `accelerate` puts it there."""
    backbone = Untraceable()
    first = backbone.layers[0]
    first.forward = own = MethodType(lambda self, x: nn.Sequential.forward(self, x), first)
    cuts, x = Cuts.of(backbone, layer_groups(backbone), vectors()), vectors()
    cuts.on(backbone).onward(Resumed(2, cuts.on(backbone).until(x, 2), x))
    assert first.forward is own


def test_where_it_is_not_cut_it_says_where_it_is():
    backbone, x = Leaking(), vectors()
    stages = Cuts.of(backbone, layer_groups(backbone), x).on(backbone)
    with pytest.raises(ValueError, match="at 1, only at 3"):
        stages.until(x, 1)


def test_what_drops_out_as_long_as_anything_trains_is_no_constant():
    class Dropping(Untraceable):
        def forward(self, x):
            assert torch.isfinite(x).all()
            one, two, three, four = self.layers
            return four(three(dropout(two(one(x)), 0.5, self.training)))

    backbone = Dropping()
    cuts = Cuts.of(backbone, layer_groups(backbone), vectors())
    assert cuts.boundaries == (1, 2, 4)  # behind the third layer lies what was dropped before it


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_what_cannot_be_copied_has_its_features():
    backbone = nn.Sequential(nn.utils.weight_norm(nn.Linear(8, 8)), nn.Linear(8, 8))
    backbone(vectors())  # from now on it holds a tensor that is made of parameters
    cuts = Cuts.of(backbone, layer_groups(backbone), vectors())
    assert cuts.boundaries == (2,)
    assert "copied" in cuts.reason
    assert backbone.training
