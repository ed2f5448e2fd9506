from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from search.activations import block_file as blocks
from search.activations.block_file import ALIGNED, CorruptBlock, Layout, check, layout_of, mapped, read, write

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool)
shapes = st.lists(st.integers(1, 4), max_size=3)


def written(folder: Path, tensors: blocks.Values, *, step: int) -> Path:
    file = folder / "block.act"
    file.write_bytes(b"")
    chunks = zip(*(tensor.split(step) for tensor in tensors), strict=True)
    write(file, chunks, Layout.of(tensors, rows=len(tensors[0])))
    if file.stat().st_size < (size := Layout.of(tensors, rows=len(tensors[0])).offsets[-1]):
        with file.open("r+b") as stream:
            stream.truncate(size)  # the shelf gives a file its length before it is written
    return file


@given(
    rows=st.integers(1, 7),
    step=st.integers(1, 4),
    kinds=st.lists(st.tuples(st.sampled_from(DTYPES), shapes), min_size=1, max_size=4),
    piece=st.sampled_from([1, 7, 1 << 20]),
)
def test_whatever_the_tensors_and_the_chunks_they_are_read_as_they_were(tmp_path_factory, rows, step, kinds, piece):
    tensors = tuple((torch.randn(rows, *shape) * 9).to(dtype) for dtype, shape in kinds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "PIECE", max(piece, 4096))
        file = written(tmp_path_factory.mktemp("block"), tensors, step=step)
        check(file, rows=rows)
        for found in (read(file, rows=rows), mapped(file, rows=rows)):
            assert all(
                one.dtype == other.dtype and torch.equal(one, other) for one, other in zip(found, tensors, strict=True)
            )
            assert all(tensor.data_ptr() % ALIGNED == 0 for tensor in mapped(file, rows=rows))
    assert layout_of(file, rows=rows).nbytes == sum(tensor.nbytes for tensor in tensors)


def test_tensors_that_do_not_lie_in_order_are_written_in_order(tmp_path):
    tensors = (torch.randn(4, 5, 6).permute(0, 2, 1), torch.randn(4, 2, 3, 3).to(memory_format=torch.channels_last))
    found = read(written(tmp_path, tensors, step=2), rows=4)
    assert all(map(torch.equal, found, tensors))


def test_other_rows_than_expected_are_another_block(tmp_path):
    file = written(tmp_path, (torch.zeros(4, 2),), step=4)
    for reader in (read, check, mapped, layout_of):
        with pytest.raises(CorruptBlock, match="holds 4 rows, not 5"):
            reader(file, rows=5)


def test_a_map_outlives_its_file_and_holds_no_descriptor(tmp_path):
    file = written(tmp_path, (torch.arange(1000.0),), step=100)
    before = len(list(Path("/proc/self/fd").iterdir()))
    (found,) = mapped(file, rows=1000)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    file.unlink()
    assert torch.equal(found, torch.arange(1000.0))
