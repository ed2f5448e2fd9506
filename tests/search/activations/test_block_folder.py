from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from search.activations import block_folder
from search.activations.block_folder import BlockFolder, DiskFull
from search.array_file import size_of

ONES = np.ones((4, 400), dtype=np.uint8)
SIZE = size_of(ONES.shape)


def put(folder: BlockFolder, key: str) -> None:
    with folder.reserve(key):
        folder.write(key, ONES.shape, [ONES])


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()} - {"room.lock"}


def test_what_is_being_written_counts_and_is_not_removed(tmp_path):
    def chunks():
        with pytest.raises(DiskFull):
            put(folder, "second")
        yield ONES

    folder = BlockFolder(tmp_path, 2 * SIZE - 1)
    with folder.reserve("first"):
        folder.write("first", ONES.shape, chunks())
    assert names(tmp_path) == {"first.npy"}


def test_a_block_that_can_never_fit_removes_no_other(tmp_path):
    put(BlockFolder(tmp_path, SIZE), "a")
    with pytest.raises(DiskFull):
        put(BlockFolder(tmp_path, SIZE - 1), "b")
    assert names(tmp_path) == {"a.npy"}


def test_a_claim_is_held_by_one_and_leaves_no_lock(tmp_path):
    folder = BlockFolder(tmp_path, 10**6)
    with folder.reserve("a"):
        (tmp_path / "a.npy.12345678.partial").touch()
        folder.evict()
        assert names(tmp_path) == {"a.lock", "a.npy.12345678.partial"}
    folder.evict()
    assert names(tmp_path) == set()


def test_who_waits_for_a_claim_says_so_until_it_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(block_folder, "WAIT_SECONDS", 0.01)
    waits: list[int] = []

    def waiting() -> None:
        waits.append(1)
        if len(waits) == 3:
            holder.release()

    holder = FileLock(tmp_path / "a.lock")
    holder.acquire()
    with BlockFolder(tmp_path, 10**6).reserve("a", waiting=waiting):
        assert len(waits) == 3
    assert names(tmp_path) == set()


def test_tidying_makes_no_folder(tmp_path):
    BlockFolder(tmp_path / "none", 10**6).evict()
    assert not (tmp_path / "none").exists()
