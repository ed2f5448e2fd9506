import itertools

import numpy as np
import pytest
import torch
from torch import nn

from search.digest import digest, state_digest

PARTS = [
    (), ((),), ("",), ("", ""), ("a", "b"), ("ab",), ("a", "", "b"), (("a", "b"),), (("a",), "b"), ("a\nb",), (b"ab",),
    (1,), (1.0,), ("1",), (True,), (-1,), (11,), (1, 1), (None,), ("None",), (0.0,), (-0.0,), (float("nan"),),
    (torch.zeros(2, 3),), (torch.zeros(3, 2),), (torch.zeros(6),), (torch.zeros(()),), (torch.zeros(0),),
    (torch.eye(2),),
    *((torch.zeros(2, 3, dtype=getattr(torch, kind)),) for kind in ("float64", "int32", "bfloat16", "float16")),
    (np.zeros((2, 3), np.float32),), (np.zeros((3, 2), np.float32),), (np.zeros((2, 3), np.int32),), (np.zeros(()),),
]  # fmt: skip


def test_other_parts_have_another_digest():
    for one, other in itertools.combinations(PARTS, 2):
        assert digest(*one) != digest(*other), (one, other)


def test_equal_parts_have_one_digest_in_any_memory_layout():
    values = torch.arange(12.0).view(3, 4)
    assert digest(values) == digest(values.t().contiguous().t()) == digest(values.clone().requires_grad_())
    assert digest(values.numpy()) == digest(np.asfortranarray(values.numpy()))
    assert digest(values[:, 1]) == digest(values[:, 1].clone())


def test_a_digest_is_the_same_in_every_process_and_names_a_file():
    assert digest("a", 1, torch.arange(3)) == "11b615386db2f88a9045287b6cd33c82"


@pytest.mark.parametrize("part", [object(), [1], {"a": 1}, np.array([None])])
def test_what_has_no_fixed_content_is_refused(part):
    with pytest.raises(TypeError, match="A digest is of text"):
        digest(part)


def test_any_changed_parameter_or_buffer_changes_the_digest():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    module.register_buffer("unsaved", torch.ones(2), persistent=False)
    known = {state_digest(module)}
    for tensor in (*module.parameters(), *module.buffers()):
        kept = tensor.detach().clone()
        with torch.no_grad():
            tensor.view(-1)[0] += 1
            known.add(state_digest(module))
            tensor.copy_(kept)
    assert state_digest(module) in known
    assert len(known) == 1 + len([*module.parameters(), *module.buffers()])


def test_a_tensor_under_another_name_is_another_module():
    first, second = nn.Module(), nn.Module()
    first.register_buffer("a", torch.ones(2))
    second.register_buffer("b", torch.ones(2))
    assert state_digest(first) != state_digest(second)
