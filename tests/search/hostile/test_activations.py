"""Kept activations that are broken: computed again."""

import os
import pickle

import numpy as np
import pytest
import torch

from search.activations.store import ActivationStore, Budget
from tests.search.activations.counted import layout_of
from tests.search.hostile.archives import DEEP_HEADER, array, header

WHOLE = array(np.zeros((4, 8), dtype=np.uint8))
BLOCKS = {
    "empty": b"",
    "no checksum": WHOLE,
    "a wrong checksum": WHOLE + b"\x01\x02\x03\x04",
    "another shape": array(np.zeros((8, 4), dtype=np.uint8)) + bytes(4),
    "another type": array(np.zeros((4, 1))) + bytes(4),
    "objects": array(np.array([[print] * 8] * 4, dtype=object)) + bytes(4),
    "a pickle": pickle.dumps(print),
    "a deep header": DEEP_HEADER,
    "a negative shape": header("|u1", (-4, 8)),
    "an endless shape": header("|u1", (4, 10**18)),
}
ONES = torch.arange(8.0).reshape(4, 2)


def kept(folder, memory=10**6):
    """Return the block of a store in that folder, and the store's messages."""
    said = []
    store = ActivationStore(folder, Budget(memory=memory, disk=10**9), say=said.append)
    (found,) = store.get("key", layout_of(ONES), lambda: iter([(ONES,)]))
    return found, said


@pytest.mark.parametrize("attack", [*BLOCKS, "pipe", "folder"])
def test_broken_activations_are_computed_again(sandbox, attack):
    folder = sandbox.work / "activations"
    folder.mkdir()
    if attack in BLOCKS:
        (folder / "key.npy").write_bytes(BLOCKS[attack])
    else:
        (os.mkfifo if attack == "pipe" else os.mkdir)(folder / "key.npy")
    sandbox.arm()
    for memory in (10**6, 0):  # read, then mapped
        found, said = kept(folder, memory)
        assert torch.equal(found, ONES)
        assert all("\n" not in line for line in said)
    sandbox.check(written=True)


@pytest.mark.parametrize("name", ["key.npy", "room.lock", "key.lock"])
def test_activations_are_not_written_through_a_link(sandbox, name):
    folder = sandbox.work / "activations"
    folder.mkdir()
    (folder / name).symlink_to(sandbox.outside / "treasure.toml")
    assert torch.equal(kept(folder)[0], ONES)
    assert (sandbox.outside / "treasure.toml").read_text() == "treasure"
