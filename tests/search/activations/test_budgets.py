"""Budgets for activations: what is kept, what goes first, and that no bytes are held past them."""

import os
import random

import pytest
import torch

from search.activations.store import ActivationStore, Budget
from tests.search.activations.counted import BOTH, DISK, MB, Block, in_memory, left_in


def test_without_a_folder_blocks_are_in_memory_only(said):
    store = ActivationStore(None, BOTH, say=said.append)
    small, large = Block("small"), Block("large", width=10**5)
    assert small.is_in(store)
    assert large.of(store) is None
    assert large.computed == 0
    assert said == ["6.4 MB of activations are more than [activations] disk = 0 and memory = 0.001 GB hold: "
                    "they are computed again each time."]  # fmt: skip


def test_a_block_over_the_disk_budget_is_in_memory(tmp_path, said):
    store = ActivationStore(tmp_path, Budget(memory=MB, disk=500), say=said.append)
    blocks = Block("a"), Block("b")
    assert all(block.is_in(store) for block in blocks * 2)
    assert [block.computed for block in blocks] == [1, 1]
    assert len(said) == 1
    assert "[activations] disk" in said[0]
    assert left_in(tmp_path) == set()


def test_the_least_recently_used_leaves_the_memory_first():
    a, b, c = (Block(key) for key in "abc")
    store = ActivationStore(None, Budget(memory=2 * a.nbytes, disk=0))
    for block in (a, b, a, c, a):
        assert block.is_in(store)
    assert (a.computed, b.computed, c.computed) == (1, 1, 1)
    assert b.is_in(store)
    assert b.computed == 2


def test_what_leaves_the_memory_is_mapped_from_its_file(tmp_path):
    blocks = [Block(key) for key in "abc"]
    store = ActivationStore(tmp_path, Budget(memory=blocks[0].nbytes, disk=MB))
    assert all(block.is_in(store) for block in blocks * 3)
    assert [block.computed for block in blocks] == [1, 1, 1]
    assert in_memory(store) == blocks[0].nbytes


def test_the_least_recently_used_file_goes_first(tmp_path):
    a, b, c = (Block(key) for key in "abc")
    store = ActivationStore(tmp_path, Budget(memory=0, disk=int(2.9 * a.nbytes)))
    mapped = b.of(store)
    assert a.is_in(store)
    for age, key in enumerate("ab"):
        os.utime(tmp_path / f"{key}.npy", (age, age))
    assert a.is_in(store), "which is its use"
    assert c.is_in(store)
    assert left_in(tmp_path) == {"a.npy", "c.npy"}
    assert all(map(torch.equal, mapped, b.tensors))


def test_a_removed_file_is_not_held_on_the_disk_for_long(tmp_path):
    block, store = Block(), ActivationStore(tmp_path, DISK)
    assert block.is_in(store)
    (tmp_path / "a.npy").unlink()
    assert block.is_in(store), "its map is still there"
    assert Block("next").is_in(store)
    assert block.computed == 1
    assert block.is_in(store)
    assert block.computed == 2


def test_a_smaller_budget_holds_from_the_start(tmp_path):
    for key in "abc":
        Block(key).of(ActivationStore(tmp_path, DISK))
    ActivationStore(tmp_path, Budget(memory=0, disk=2000))
    assert left_in(tmp_path) == {"b.npy", "c.npy"}


@pytest.mark.parametrize("seed", range(3))
def test_no_sequence_of_gets_exceeds_a_budget(tmp_path, seed):
    draw = random.Random(seed)
    (tmp_path / "notes.txt").write_text("mine" * 1000)
    known = [Block(f"{index:02}", width=draw.choice([5, 20, 80, 300])) for index in range(12)]
    budget = Budget(memory=draw.choice([0, 5000, 20_000]), disk=draw.choice([0, 7000, 40_000]))
    stores = [ActivationStore(tmp_path, budget, say=lambda _: None) for _ in range(2)]
    for _ in range(120):
        block, store = draw.choice(known), draw.choice(stores)
        held_before = block.computed
        assert block.is_in(store) or block.nbytes > max(budget.memory, budget.disk - 400)
        assert block.computed <= held_before + 1
        assert in_memory(store) <= budget.memory
        assert sum(file.stat().st_size for file in tmp_path.glob("*.npy")) <= budget.disk
        assert not [*tmp_path.glob("*.partial"), *tmp_path.glob("[0-9]*.lock")]
    assert (tmp_path / "notes.txt").read_text() == "mine" * 1000


@pytest.mark.parametrize("name", ["memory", "disk"])
def test_a_budget_is_not_negative(name):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 0, got -1"):
        Budget(**{"memory": 0, "disk": 0, name: -1})
