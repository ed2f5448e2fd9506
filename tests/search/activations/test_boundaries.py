"""Every backbone of the zoo, cut: from any boundary it trains and evaluates as the whole does."""

import copy
import gc
import weakref
from collections.abc import Callable
from types import MethodType

import pytest
import torch
from torch import Tensor, nn

from search.activations.boundaries import Boundaries, PartialInputs
from strategies import LayerGroup, layer_groups
from strategies.freeze import set_trainable
from tests.search.activations.backbones import ALL, FAST, SLOW, SOAK, UNet, Untraceable, vectors


class Case:
    def __init__(self, make: Callable[[], nn.Module], inputs: Callable):
        torch.manual_seed(0)
        self.backbone, self.inputs = make(), inputs()
        self.groups = self.grouped(self.backbone)
        self.cuts = Boundaries.of(self.backbone, self.groups, self.inputs)

    @staticmethod
    def grouped(backbone: nn.Module) -> list[LayerGroup]:
        return layer_groups(backbone, groups=getattr(backbone, "patterns", None))

    def rows(self, where) -> Tensor | dict[str, Tensor]:
        return {k: v[where] for k, v in self.inputs.items()} if isinstance(self.inputs, dict) else self.inputs[where]

    def resumed(self, boundary: int, backbone: nn.Module, *, at_once: int = 4) -> PartialInputs:
        """Computed some at a time and put together, as a store does."""
        stages = self.cuts.on(backbone)
        parts = [stages.until(self.rows(slice(i, i + at_once)), boundary) for i in range(0, 4, at_once)]
        needed = self.cuts.needs_inputs(boundary)
        return PartialInputs(boundary, tuple(map(torch.cat, zip(*parts, strict=True))), self.inputs if needed else None)

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
    Boundaries.of(case.backbone, case.groups, case.inputs)
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
        resumed = PartialInputs(start, values, case.inputs if case.cuts.needs_inputs(start) else None)
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
    cuts = Boundaries.of(backbone, layer_groups(backbone), case.inputs)
    tensors = [weakref.ref(tensor) for tensor in (*backbone.parameters(), *backbone.buffers())]
    del backbone
    gc.collect()
    assert not any(tensor() is not None for tensor in tensors)

    other = copy.deepcopy(case.backbone).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
        values = cuts.on(other).until(case.inputs, 1)
        features = cuts.on(other).onward(PartialInputs(1, values, case.inputs))
        torch.testing.assert_close(features, other(case.inputs))


def test_a_forward_that_stands_on_a_module_itself_is_its_own_again():
    """As `accelerate` puts it there."""
    backbone = Untraceable()
    first = backbone.layers[0]
    first.forward = own = MethodType(lambda self, x: nn.Sequential.forward(self, x), first)
    cuts, x = Boundaries.of(backbone, layer_groups(backbone), vectors()), vectors()
    cuts.on(backbone).onward(PartialInputs(2, cuts.on(backbone).until(x, 2), x))
    assert first.forward is own
