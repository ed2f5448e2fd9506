import os
from pathlib import Path

import numpy as np
import pytest

from search.array_file import ArrayWriter, BrokenArray, read_array, size_of
from search.files import replacing


def written(file: Path, array: np.ndarray, *, step: int = 2) -> Path:
    with replacing(file) as stream:
        writer = ArrayWriter(stream, array.shape)
        for begin in range(0, len(array), step):
            writer.write(array[begin : begin + step])
        writer.finish()
    return file


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 3, 5), dtype=np.uint8)


def test_an_array_is_read_as_it_was_written(tmp_path, array):
    file = written(tmp_path / "a.npy", array)
    assert np.array_equal(read_array(file, array.shape), array)
    assert np.array_equal(read_array(file, array.shape, mapped=False), array)
    assert np.array_equal(np.load(file, allow_pickle=False), array)
    assert file.stat().st_size == size_of(array.shape)


def test_writing_into_a_map_changes_no_file(tmp_path, array):
    file = written(tmp_path / "a.npy", array)
    read_array(file, array.shape)[:] = 0
    assert np.array_equal(read_array(file, array.shape), array)


def test_a_map_outlives_its_file_and_holds_no_descriptor(tmp_path, array):
    file = written(tmp_path / "a.npy", array)
    before = len(os.listdir("/proc/self/fd"))
    found = read_array(file, array.shape)
    assert len(os.listdir("/proc/self/fd")) == before
    file.unlink()
    assert np.array_equal(found, array)


def test_an_array_of_another_shape_is_broken(tmp_path, array):
    file = written(tmp_path / "a.npy", array)
    with pytest.raises(BrokenArray, match=r"holds no array of shape \(3, 7, 5\)"):
        read_array(file, (3, 7, 5))


def test_unchecked_damage_is_of_the_content_alone(tmp_path, array):
    file = written(tmp_path / "a.npy", array)
    content = bytearray(file.read_bytes())
    content[-10] ^= 1
    file.write_bytes(content)
    assert read_array(file, array.shape, checked=False).shape == array.shape
    with pytest.raises(BrokenArray, match="damaged"):
        read_array(file, array.shape)
