"""A store whose files are damaged, or whose disk is full, small or read-only."""

import os
import random
import subprocess
from errno import ENOSPC
from pathlib import Path

import pytest
import torch

from search.activations.store import ActivationStore
from tests.search.activations.counted import BOTH, DISK, Block, layout_of, left_in


def _flipped(at: int):
    def flip(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[at] ^= 4
        file.write_bytes(content)

    return flip


def _of_other_rows(file: Path) -> None:
    store = ActivationStore(file.parent, DISK)
    store.get("other", layout_of(torch.zeros(5)), lambda: iter([(torch.zeros(5),)]))
    file.with_stem("other").replace(file)


DAMAGES = {
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: os.truncate(file, file.stat().st_size - 1),
    "longer": lambda file: os.truncate(file, file.stat().st_size + 1),
    "another file": lambda file: file.write_text("[activations]\n" * 100),
    "header": _flipped(30),
    "first tensor": _flipped(300),
    "last tensor": _flipped(-1),
    "other rows": _of_other_rows,
}


@pytest.mark.parametrize("budget", [BOTH, DISK])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_noticed_said_and_computed_again(tmp_path, said, damage, budget):
    Block().of(ActivationStore(tmp_path, budget))
    DAMAGES[damage](tmp_path / "a.npy")
    block, store = Block(), ActivationStore(tmp_path, budget, say=said.append)
    assert block.is_in(store)
    assert block.computed == 1
    assert len(said) == 1
    assert f"{tmp_path / 'a.npy'}: " in said[0]
    assert Block().is_in(later := ActivationStore(tmp_path, budget, say=said.append))
    assert block.is_in(later)
    assert (block.computed, len(said)) == (1, 1)


def test_a_damaged_file_goes_even_where_nothing_is_filled(tmp_path, said):
    (tmp_path / "a.npy").write_text("damaged")
    assert Block().of(ActivationStore(tmp_path, DISK, say=said.append), fill=False) is None
    assert (left_in(tmp_path), len(said)) == (set(), 1)


def test_no_flipped_bit_is_ever_read(tmp_path):
    Block().of(ActivationStore(tmp_path, DISK))
    file = tmp_path / "a.npy"
    whole, draw = file.read_bytes(), random.Random(0)
    for _ in range(100):
        content = bytearray(whole)
        content[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        file.write_bytes(content)
        assert Block().is_in(ActivationStore(tmp_path, DISK, say=lambda _: None))


def test_the_last_bytes_of_a_disk_are_left_to_others(tiny_disk, said, monkeypatch):
    store = ActivationStore(tiny_disk, DISK, say=said.append)
    assert Block("a", width=1400).is_in(store)
    monkeypatch.setattr("search.activations.block_folder.MIN_FREE_BYTES", 200_000)
    assert Block("b", width=1400).of(store) is None
    assert [line.startswith("The disk takes no more activations") for line in said] == [True]
    ActivationStore(tiny_disk, DISK)
    assert left_in(tiny_disk) == set(), "and given back to them"


@pytest.mark.fault
def test_a_disk_that_fills_is_said_once_and_left_alone(tmp_path, said, monkeypatch, tell):
    def full(descriptor: int, content: memoryview) -> int:
        tried.append(len(content))
        if sum(tried) > 200:
            raise OSError(ENOSPC, os.strerror(ENOSPC))
        return write(descriptor, content)

    write, tried = os.write, []
    with monkeypatch.context() as patch:
        patch.setattr("search.array_file.os.write", full)
        on_disk, both = (ActivationStore(tmp_path, budget, say=said.append) for budget in (DISK, BOTH))
        assert Block("a").of(on_disk) is None
        tried.clear()
        assert Block("b").of(on_disk) is None
        assert not tried
        assert Block("c").is_in(both)
    assert left_in(tmp_path) == set()
    assert len(said) == 2  # one a store
    assert said[0].endswith("(No space left on device): they are computed again each time.")
    assert said[1].endswith("(No space left on device): each process computes them once.")
    tell("the disk is full in the cache", "said; computed again each time")


@pytest.mark.fault
def test_a_small_disk_takes_what_fits(tiny_disk, said, tell):
    store = ActivationStore(tiny_disk, DISK, say=said.append)
    small, large = Block("small"), Block("large", width=10_000)
    assert large.of(store) is None
    assert left_in(tiny_disk) == set()
    assert small.is_in(store)
    assert (small.computed, len(said)) == (1, 1)
    tell("a small disk for the cache (tmpfs)", "what fits is kept, the rest computed; said once")


def test_a_full_disk_makes_room_of_its_own_old_blocks(tiny_disk):
    for key in "abc":
        assert Block(key, width=1400).is_in(ActivationStore(tiny_disk, DISK))
    assert left_in(tiny_disk) == {"b.npy", "c.npy"}


def test_a_read_only_folder_is_read(tiny_disk, said):
    assert Block("a").is_in(ActivationStore(tiny_disk, DISK))
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    there, new = Block("a"), Block("b")
    store = ActivationStore(tiny_disk, BOTH, say=said.append)
    assert there.is_in(store)
    assert new.is_in(store)
    assert (there.computed, new.computed, len(said)) == (0, 1, 1)
    assert "Read-only" in said[0]


def test_a_folder_that_cant_be_made(tmp_path, said):
    (tmp_path / "file").touch()
    block = Block()
    assert block.is_in(ActivationStore(tmp_path / "file" / "store", BOTH, say=said.append))
    assert block.of(ActivationStore(tmp_path / "file" / "store", DISK, say=said.append)) is None
    assert (block.computed, len(said)) == (1, 2)
