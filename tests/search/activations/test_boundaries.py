"""Every backbone of the zoo, cut: from any boundary it trains and evaluates as the whole does."""

import copy
import gc
import weakref
from collections.abc import Callable
from types import MethodType

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from search.activations.boundaries import Boundaries, PartialInputs
from search.activations.slots import Layout
from search.models.builtin import StackedLSTM
from strategies import LayerGroup, layer_groups
from strategies.freeze import set_trainable
from tests.search.activations.backbones import ALL, FAST, SLOW, SOAK, Looking, UNet, cut_series, vectors


class Case:
    def __init__(self, make: Callable[[], nn.Module], inputs: Callable):
        torch.manual_seed(0)
        self.backbone, self.inputs = make(), inputs()
        self.groups = self.grouped(self.backbone)
        self.boundaries = Boundaries.of(self.backbone, self.groups, self.inputs)

    @staticmethod
    def grouped(backbone: nn.Module) -> list[LayerGroup]:
        return layer_groups(backbone, groups=getattr(backbone, "patterns", None))

    def rows(self, where) -> Tensor | dict[str, Tensor]:
        return {k: v[where] for k, v in self.inputs.items()} if isinstance(self.inputs, dict) else self.inputs[where]

    def resumed(self, boundary: int, backbone: nn.Module, *, at_once: int = 4) -> PartialInputs:
        """Compute some at a time and put them together, as a store does."""
        partial = self.boundaries.on(backbone)
        parts = [partial.run_to(self.rows(slice(i, i + at_once)), boundary) for i in range(0, 4, at_once)]
        needed = self.boundaries.needs_inputs(boundary)
        return PartialInputs(boundary, tuple(map(torch.cat, zip(*parts, strict=True))), self.inputs if needed else None)

    def frozen(self, boundary: int) -> nn.Module:
        """Return a copy that trains behind a boundary."""
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
def test_a_backbone_is_cut_between_all_its_groups(case):
    """Where several values are live at once (U-Net), only the first boundary is found."""
    inside = range(1, 2 if isinstance(case.backbone, UNet) else len(case.groups))
    assert case.boundaries.indices == (*inside, len(case.groups))
    assert case.boundaries.search.reason == ""


@parametrize()
def test_only_what_comes_back_to_the_inputs_needs_them(case):
    """A U-Net's last product, and lengths and masks of padded series."""
    taking = {boundary for boundary in case.boundaries.indices if case.boundaries.needs_inputs(boundary)}
    takes = isinstance(case.backbone, UNet) or isinstance(case.inputs, dict)
    assert taking == (set(case.boundaries.indices[:-1]) if takes else set())


@parametrize(FAST)
def test_finding_boundaries_leaves_the_backbone_as_it_was(case):
    tensors, attributes = snapshot(case.backbone)
    Boundaries.of(case.backbone, case.groups, case.inputs)
    after, others = snapshot(case.backbone)
    assert all(map(torch.equal, tensors, after))
    assert others == attributes


@parametrize()
def test_training_from_a_boundary_is_training_the_rest(case):
    """The same losses, gradients, batch-norm statistics and random numbers, step by step."""
    for boundary in case.boundaries.indices[:-1]:
        whole, rest = case.frozen(boundary), case.frozen(boundary)
        partial, resumed = case.boundaries.on(rest), case.resumed(boundary, rest)
        target = torch.randn(4, case.boundaries.features.shape[0])
        for step in range(2):
            torch.manual_seed(step)
            (whole(case.inputs) - target).square().mean().backward()
            drawn = torch.get_rng_state()
            torch.manual_seed(step)
            (partial.run_from(resumed) - target).square().mean().backward()
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
def test_evaluation_from_a_boundary_gives_the_whole_features(case):
    backbone = copy.deepcopy(case.backbone).eval()
    with torch.no_grad():
        for boundary in case.boundaries.indices:
            found, whole = (
                case.boundaries.on(backbone).run_from(case.resumed(boundary, backbone, at_once=1)),
                backbone(case.inputs),
            )
            torch.testing.assert_close(found, whole, rtol=0, atol=1e-4 * float(whole.abs().max()))


@parametrize(FAST)
def test_a_value_is_the_same_from_any_earlier_boundary(case):
    backbone = copy.deepcopy(case.backbone).eval()
    partial = case.boundaries.on(backbone)
    for index, start in enumerate(case.boundaries.indices):
        values = partial.run_to(case.inputs, start)
        resumed = PartialInputs(start, values, case.inputs if case.boundaries.needs_inputs(start) else None)
        kept = [value.clone() for value in values]
        for boundary in case.boundaries.indices[index:]:
            direct = partial.run_to(case.inputs, boundary)
            torch.testing.assert_close(partial.run_to(resumed, boundary), direct, rtol=1e-4, atol=1e-5)
            layouts = [Layout(tuple(value.shape[1:]), value.dtype) for value in direct]
            assert layouts == list(case.boundaries.layouts_of(boundary, case.inputs))
            assert not any(value.requires_grad for value in direct)
        partial.run_from(resumed)
        assert all(map(torch.equal, values, kept))  # nobody writes into what is given


@parametrize(["unet", "lstm", "own dropout", "looking", "bert"])
def test_only_the_layers_between_two_boundaries_run(case):
    for boundary in case.boundaries.indices[:-1]:
        backbone = copy.deepcopy(case.backbone).eval()
        resumed, partial = case.resumed(boundary, backbone), case.boundaries.on(backbone)
        groups = case.grouped(backbone)
        broken = set(groups[boundary].parameters)
        with torch.no_grad():
            for parameter in broken:
                parameter.fill_(torch.nan)
        assert all(value.isfinite().all() for value in partial.run_to(case.inputs, boundary))
        with torch.no_grad():
            for group in groups:
                for parameter in group.parameters:
                    parameter.fill_(torch.nan if parameter not in broken and group in groups[:boundary] else 0.01)
        assert partial.run_from(resumed).isfinite().all()


@parametrize(["unet", "lstm", "bert"])
def test_boundaries_hold_no_tensor_and_fit_any_copy(case):
    backbone = copy.deepcopy(case.backbone)
    boundaries = Boundaries.of(backbone, layer_groups(backbone), case.inputs)
    tensors = [weakref.ref(tensor) for tensor in (*backbone.parameters(), *backbone.buffers())]
    del backbone
    gc.collect()
    assert not any(tensor() is not None for tensor in tensors)

    other = copy.deepcopy(case.backbone).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
        values = boundaries.on(other).run_to(case.inputs, 1)
        features = boundaries.on(other).run_from(PartialInputs(1, values, case.inputs))
        torch.testing.assert_close(features, other(case.inputs))


def test_a_modules_own_forward_is_restored():
    """`accelerate` puts one there."""
    backbone = Looking()
    first = backbone.layers[0]
    first.forward = own = MethodType(lambda self, x: nn.Sequential.forward(self, x), first)
    boundaries, x = Boundaries.of(backbone, layer_groups(backbone), vectors()), vectors()
    boundaries.on(backbone).run_from(PartialInputs(2, boundaries.on(backbone).run_to(x, 2), x))
    assert first.forward is own


class Written(nn.Module):
    """Functions write into what each layer gives."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))

    def forward(self, x):
        for layer in self.layers:
            x = relu(layer(x), inplace=True)
        return x


class Gated(nn.Module):
    """A connection over a layer, whose gate is still closed: an early value would count as soon as it trains."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = (nn.Linear(8, 8) for _ in range(3))
        self.three.gate = nn.Parameter(torch.zeros(8))

    def forward(self, x):
        x = self.one(x)
        return self.three(self.two(x) + self.three.gate * x)


def test_code_that_writes_into_early_results_is_cut():
    backbone, x = Written(), vectors()
    boundaries = Boundaries.of(backbone, layer_groups(backbone), x)
    assert boundaries.indices == (1, 2, 3, 4)
    partial = boundaries.on(backbone)
    for rows in (x, x[:1], torch.cat([x, x, x])):
        values = partial.run_to(rows, 3)
        torch.testing.assert_close(partial.run_from(PartialInputs(3, values, None)), backbone(rows))


def test_a_closed_gate_hides_no_live_value():
    backbone = Gated()
    boundaries = Boundaries.of(backbone, layer_groups(backbone, groups=["one.*", "two.*", "three.*"]), vectors())
    assert boundaries.indices == (1, 3)


def test_fewest_bytes_decide_where_a_cut_is():
    """Behind the pooling, not before it."""
    backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 2), nn.Flatten())
    x = torch.randn(4, 1, 8, 8)
    boundaries = Boundaries.of(backbone, layer_groups(backbone, groups=["0.*", "3.*"]), x)
    assert [layout.shape for layout in boundaries.layouts_of(1, x)] == [(4, 3, 3)]


def test_series_of_another_length_fit():
    """A test set is padded to its own longest series."""
    backbone, x = StackedLSTM(input_size=3, hidden_size=8).eval(), cut_series()
    boundaries = Boundaries.of(backbone, layer_groups(backbone), x)
    longer = {"values": torch.randn(5, 12, 3), "lengths": torch.tensor([12, 3, 4, 9, 1])}
    values = boundaries.on(backbone).run_to(longer, 2)
    assert [layout.shape for layout in boundaries.layouts_of(2, longer)] == [(12, 8)] == [values[0].shape[1:]]
    found = boundaries.on(backbone).run_from(PartialInputs(2, values, longer))
    torch.testing.assert_close(found, backbone(longer))
