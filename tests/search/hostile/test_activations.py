"""Kept activations that are broken: computed again."""

import json
import os
import zlib

import pytest
import torch

from search.activations.block_file import MAGIC
from search.activations.store import ActivationStore, Budget


def block(known, *, magic=MAGIC, checksum=None, tail=b""):
    text = known if isinstance(known, bytes) else json.dumps(known).encode()
    crc = zlib.crc32(text) if checksum is None else checksum
    return magic + len(text).to_bytes(4, "little") + crc.to_bytes(4, "little") + text + tail


def known(**changes):
    return {"shapes": [[4, 2]], "dtypes": ["float32"], "checksums": ["00000000"]} | changes


BLOCKS = {
    "another version": block(known(), magic=b"frost-9\n"),
    "a wrong checksum": block(known(), checksum=1),
    "deep JSON": block(b"[" * 100_000),
    "a shape without rows": block(known(shapes=[[]])),
    "a negative shape": block(known(shapes=[[4, -2]])),
    "a function for a type": block(known(dtypes=["load"])),
    "fewer checksums": block(known(checksums=[])),
    "wrong bytes": block(known(), tail=bytes(range(256))),
}
ONES = torch.arange(8.0).reshape(4, 2)


def kept(folder, memory=10**6):
    """The block of a store in that folder, and the store's messages."""
    said = []
    store = ActivationStore(folder, Budget(memory=memory, disk=10**9), say=said.append)
    (found,) = store.get("key", rows=4, compute=lambda: iter([(ONES,)]), nbytes=32)
    return found, said


@pytest.mark.parametrize("attack", [*BLOCKS, "pipe", "folder"])
def test_broken_activations_are_computed_again(sandbox, attack):
    folder = sandbox.work / "activations"
    folder.mkdir()
    if attack in BLOCKS:
        (folder / "key.act").write_bytes(BLOCKS[attack])
    else:
        (os.mkfifo if attack == "pipe" else os.mkdir)(folder / "key.act")
    sandbox.arm()
    for memory in (10**6, 0):  # read, then mapped
        found, said = kept(folder, memory)
        assert torch.equal(found, ONES)
        assert all("\n" not in line for line in said)
    sandbox.check(written=True)


@pytest.mark.parametrize("name", ["key.act", "room.lock", "key.lock"])
def test_activations_are_not_written_through_a_link(sandbox, name):
    folder = sandbox.work / "activations"
    folder.mkdir()
    (folder / name).symlink_to(sandbox.outside / "treasure.toml")
    assert torch.equal(kept(folder)[0], ONES)
    assert (sandbox.outside / "treasure.toml").read_text() == "treasure"
