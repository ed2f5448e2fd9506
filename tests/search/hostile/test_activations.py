"""Kept activations that are none: computed again."""

import json
import os
import pickle
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
    "empty": b"",
    "four bytes": MAGIC[:4],
    "another version": block(known(), magic=b"frost-9\n"),
    "a wrong checksum": block(known(), checksum=1),
    "no JSON": block(b"{"),
    "deep JSON": block(b"[" * 100_000),
    "a list": block([1, 2]),
    "no shapes": block(known(shapes=[])),
    "a shape without rows": block(known(shapes=[[]])),
    "a shape in words": block(known(shapes=["ab"])),
    "a negative shape": block(known(shapes=[[4, -2]])),
    "a shape with a fraction": block(known(shapes=[[4, 0.5]])),
    "an endless shape": block(known(shapes=[[4, 10**18]])),
    "a function for a type": block(known(dtypes=["load"])),
    "a module for a type": block(known(dtypes=["os"])),
    "a type that is none": block(known(dtypes=[5])),
    "dunder": block(known(dtypes=["__builtins__"])),
    "fewer checksums": block(known(checksums=[])),
    "more checksums": block(known(checksums=["0", "0"])),
    "a checksum in words": block(known(checksums=["x"])),
    "only a header": block(known()),
    "too long": block(known(), tail=bytes(10**6)),
    "wrong bytes": block(known(), tail=bytes(range(256))),
    "a pickle": pickle.dumps(print),
}


@pytest.mark.parametrize("memory", [10**6, 0], ids=["read", "mapped"])
@pytest.mark.parametrize("attack", [*BLOCKS, "pipe", "folder", "link"])
def test_activations_that_are_none_are_computed_again(sandbox, attack, memory):
    folder = sandbox.work / "activations"
    folder.mkdir()
    file = folder / "key.act"
    if attack in BLOCKS:
        file.write_bytes(BLOCKS[attack])
    else:
        file.symlink_to(sandbox.outside / "treasure.toml") if attack == "link" else (
            os.mkfifo if attack == "pipe" else os.mkdir
        )(file)
    sandbox.arm()
    said = []
    store = ActivationStore(folder, Budget(memory=memory, disk=10**9), say=said.append)
    made = torch.arange(8.0).reshape(4, 2)
    (found,) = store.get("key", rows=4, compute=lambda: iter([(made,)]), nbytes=32)
    assert torch.equal(found, made)
    assert all("\n" not in line for line in said)
    if attack != "link":
        sandbox.check(written=True)


@pytest.mark.parametrize("name", ["room", "key"])
def test_a_lock_is_not_written_through_a_link(sandbox, name):
    folder = sandbox.work / "activations"
    folder.mkdir()
    (folder / f"{name}.lock").symlink_to(sandbox.outside / "treasure.toml")
    store = ActivationStore(folder, Budget(memory=10**6, disk=10**9), say=lambda line: None)
    assert store.get("key", rows=4, compute=lambda: iter([(torch.ones(4, 2),)]), nbytes=32) is not None
    assert (sandbox.outside / "treasure.toml").read_text() == "treasure"
