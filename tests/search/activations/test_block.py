import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.search.activations.counted import layout_of

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool)
shapes = st.lists(st.integers(1, 4), max_size=3)


@given(
    rows=st.integers(1, 7),
    step=st.integers(1, 4),
    kinds=st.lists(st.tuples(st.sampled_from(DTYPES), shapes), min_size=1, max_size=4),
)
def test_tensors_are_the_same_from_their_bytes(rows, step, kinds):
    tensors = tuple((torch.randn(rows, *shape) * 9).to(dtype) for dtype, shape in kinds)
    layout = layout_of(*tensors)
    pieces = [*layout.pieces(zip(*(tensor.split(step) for tensor in tensors), strict=True))]
    found = layout.tensors(np.concatenate(pieces))
    assert all(one.dtype == other.dtype and torch.equal(one, other) for one, other in zip(found, tensors, strict=True))
    assert layout.nbytes == sum(piece.nbytes for piece in pieces)


@pytest.mark.parametrize("like", [torch.randn(4, 5, 6).permute(0, 2, 1), torch.randn(4, 1, 1, 3).expand(4, 2, 2, 3)])
def test_strided_tensors_are_written_in_order(like):
    layout = layout_of(like)
    (piece,) = layout.pieces([(like,)])
    assert torch.equal(layout.tensors(piece)[0], like)
