from pathlib import Path

import pytest
import torch
from filelock import FileLock

from search.activations import block_folder
from search.activations.block_file import DiskFull, Layout, read
from search.activations.block_folder import BlockFolder

ONES = (torch.ones(4, 100),)
LAYOUT = Layout.of(ONES, rows=4)
SIZE = LAYOUT.offsets[-1]


def put(shelf: BlockFolder, key: str) -> None:
    with shelf.claimed(key):
        shelf.put(key, [ONES], LAYOUT)


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()} - {"room.lock"}


def test_a_block_is_seen_only_when_it_is_whole(tmp_path):
    def chunks():
        for row in torch.ones(4, 1, 100):
            assert not shelf.file("a").exists()
            yield (row,)

    shelf = BlockFolder(tmp_path, 10**6)
    with shelf.claimed("a"):
        shelf.put("a", chunks(), LAYOUT)
    assert torch.equal(read(shelf.file("a"), rows=4)[0], ONES[0])
    assert names(tmp_path) == {"a.act"}


def test_what_is_being_written_counts_and_is_not_removed(tmp_path):
    def chunks():
        with pytest.raises(DiskFull):
            put(shelf, "second")
        yield ONES

    shelf = BlockFolder(tmp_path, 2 * SIZE - 1)
    with shelf.claimed("first"):
        shelf.put("first", chunks(), LAYOUT)
    assert names(tmp_path) == {"first.act"}


def test_a_block_that_can_never_fit_removes_no_other(tmp_path):
    put(BlockFolder(tmp_path, SIZE), "a")
    with pytest.raises(DiskFull):
        put(BlockFolder(tmp_path, SIZE - 1), "b")
    assert names(tmp_path) == {"a.act"}


def test_a_claim_is_held_by_one_and_leaves_no_lock(tmp_path):
    shelf = BlockFolder(tmp_path, 10**6)
    with shelf.claimed("a"):
        (tmp_path / "a.12345678.partial").touch()
        shelf.tidy()
        assert names(tmp_path) == {"a.lock", "a.12345678.partial"}
    shelf.tidy()
    assert names(tmp_path) == set()


def test_who_waits_for_a_claim_says_so_until_it_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(block_folder, "TICK", 0.01)
    waits: list[int] = []

    def waiting() -> None:
        waits.append(1)
        if len(waits) == 3:
            holder.release()

    holder = FileLock(tmp_path / "a.lock")
    holder.acquire()
    with BlockFolder(tmp_path, 10**6).claimed("a", waiting=waiting):
        assert len(waits) == 3
    assert names(tmp_path) == set()


def test_tidying_makes_no_folder(tmp_path):
    BlockFolder(tmp_path / "none", 10**6).tidy()
    assert not (tmp_path / "none").exists()
