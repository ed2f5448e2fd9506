"""The store: each block computed once, whatever fits, breaks, fills up or is killed."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from errno import ENOSPC
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from search.activations import ActivationStore, Budget, NotFinite, blocks, halved
from search.activations.blocks import Values
from search.activations.shelf import Shelf

MB = 10**6
ROWS = 8
BOTH = Budget(memory=MB, disk=MB)
DISK = Budget(memory=0, disk=MB)
MEMORY = Budget(memory=MB, disk=0)
NOTHING = Budget(memory=0, disk=0)


class Block:
    """A block of a float and an integer tensor, and how often it was computed."""

    def __init__(self, key: str = "a", *, width: int = 10) -> None:
        generator = torch.Generator().manual_seed(sum(key.encode()))
        self.key = key
        self.tensors = torch.randn(ROWS, width, 2, generator=generator), torch.arange(ROWS)
        self.nbytes = sum(tensor.nbytes for tensor in self.tensors)
        self.computed = 0

    def compute(self) -> Iterator[Values]:
        self.computed += 1
        for rows in (slice(0, 3), slice(3, 6), slice(6, ROWS)):
            yield tuple(tensor[rows] for tensor in self.tensors)

    def of(self, store: ActivationStore, *, fill: bool = True) -> Values | None:
        return store.get(self.key, rows=ROWS, compute=self.compute, nbytes=self.nbytes, fill=fill)

    def is_in(self, store: ActivationStore) -> bool:
        found = self.of(store)
        return found is not None and all(map(torch.equal, found, self.tensors))


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def tiny_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system of 256 KB, all of it for activations."""
    monkeypatch.setattr("search.activations.shelf.SPARE", 0)
    place = tmp_path / "tiny"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True)
    if done.returncode:
        pytest.skip("no tmpfs may be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def left_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()} - {"room.lock"}


# Once


@pytest.mark.parametrize("budget", [BOTH, DISK, MEMORY])
def test_a_block_is_what_was_computed_and_is_computed_once(tmp_path, said, budget):
    block, store = Block(), ActivationStore(tmp_path, budget, say=said.append)
    assert all(block.is_in(store) for _ in range(3))
    assert block.computed == 1
    assert not said


@pytest.mark.parametrize("budget", [BOTH, DISK])
def test_later_processes_find_it_in_its_file(tmp_path, budget):
    first, later = Block(), Block()
    assert first.is_in(ActivationStore(tmp_path, budget))
    assert later.is_in(ActivationStore(tmp_path, budget))
    assert (first.computed, later.computed) == (1, 0)
    assert left_in(tmp_path) == {"a.act"}


def test_a_block_that_is_held_is_not_read_again(tmp_path, monkeypatch):
    in_memory, on_disk = Block("a"), Block("b")
    stores = ActivationStore(tmp_path, BOTH), ActivationStore(tmp_path, DISK)
    before = in_memory.of(stores[0]), on_disk.of(stores[1])
    monkeypatch.setattr(Path, "open", None)
    monkeypatch.setattr(Shelf, "claimed", None)
    assert (in_memory.of(stores[0]), on_disk.of(stores[1])) == before


def test_what_is_not_there_is_not_filled_unless_asked(tmp_path):
    block, store = Block(), ActivationStore(tmp_path, BOTH)
    assert block.of(store, fill=False) is None
    assert block.of(store) is not None
    assert block.of(store, fill=False) is not None
    assert block.computed == 1


def test_writing_into_a_map_changes_no_file(tmp_path):
    block = Block()
    for tensor in block.of(ActivationStore(tmp_path, DISK)):
        tensor.zero_()
    assert block.is_in(ActivationStore(tmp_path, DISK))
    assert block.computed == 1


def test_compute_may_ask_for_another_block(tmp_path):
    early = Block("early")
    for budget in (BOTH, DISK, Budget(memory=early.nbytes, disk=MB)):
        late, store = Block("late"), ActivationStore(tmp_path / str(budget.memory), budget)

        def compute(store=store):
            values, index = early.of(store)
            yield values * 2, index

        values, _ = store.get("late", rows=ROWS, compute=compute, nbytes=late.nbytes)
        assert torch.equal(values, early.tensors[0] * 2)
        assert in_memory(store) <= budget.memory


RACER = """
import sys, time, torch
from pathlib import Path
from typing import BinaryIO
from search.activations import ActivationStore, Budget
folder, memory = Path(sys.argv[1]), int(sys.argv[2])
def compute():
    with open(folder.parent / "log", "a") as log: log.write("computed\\n")
    for part in range(20):
        time.sleep(0.02)
        yield (torch.full((1, 1000), part),)
store = ActivationStore(folder, Budget(memory=memory, disk=10**6))
print("ready", flush=True)
sys.stdin.readline()
found, = store.get("a", rows=20, compute=compute, nbytes=160_000)
assert torch.equal(found, torch.arange(20)[:, None].expand(20, 1000))
print("right", flush=True)
"""


def test_of_two_processes_one_computes_and_the_other_waits(tmp_path):
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, tmp_path / "store", memory],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for memory in ("0", "1000000")
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    assert [racer.communicate(timeout=60)[0] for racer in racers] == ["right\n", "right\n"]
    assert (tmp_path / "log").read_text() == "computed\n"


WRITER = """
import sys, time, torch
from pathlib import Path
from typing import BinaryIO
from search.activations import ActivationStore, Budget
def compute():
    yield (torch.ones(10, 1000),)
    yield (torch.ones(10, 1000),)
    print("half", flush=True)
    time.sleep(60)
ActivationStore(Path(sys.argv[1]), Budget(memory=0, disk=10**6)).get("a", rows=30, compute=compute, nbytes=120_000)
"""


def test_a_killed_writer_leaves_nothing_that_is_read_or_stays(tmp_path):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "half\n"
    other, store = Block("other"), ActivationStore(tmp_path, DISK)
    assert other.is_in(store)
    names = left_in(tmp_path)
    assert len(names) == 3, "a living writer's file and lock stay"
    assert {"other.act", "a.lock"} < names
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
    later = ActivationStore(tmp_path, DISK)
    assert left_in(tmp_path) == {"other.act"}
    assert Block("a").is_in(later)


# Budgets


def in_memory(store: ActivationStore) -> int:
    return sum(held.nbytes for held in store._held.values() if held.in_memory)


def test_nothing_is_kept_where_both_budgets_are_off(tmp_path, said):
    block, store = Block(), ActivationStore(tmp_path, NOTHING, say=said.append)
    assert block.of(store) is None
    assert (block.computed, said, left_in(tmp_path)) == (0, [], set())


def test_without_a_folder_blocks_are_in_memory_only(said):
    store = ActivationStore(None, BOTH, say=said.append)
    small, large = Block("small"), Block("large", width=10**5)
    assert small.is_in(store)
    assert large.of(store) is None
    assert large.computed == 0
    assert said == ["6.4 MB of activations are more than [activations] disk = 0 and memory = 0.001 GB hold: "
                    "they are computed again each time."]  # fmt: skip


def test_a_block_larger_than_the_disk_budget_is_in_memory_and_said_once(tmp_path, said):
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


def test_the_least_recently_used_file_goes_first_and_its_map_can_still_be_read(tmp_path):
    a, b, c = (Block(key) for key in "abc")
    store = ActivationStore(tmp_path, Budget(memory=0, disk=int(2.9 * a.nbytes)))
    mapped = b.of(store)
    assert a.is_in(store)
    for age, key in enumerate("ab"):
        os.utime(tmp_path / f"{key}.act", (age, age))
    assert a.is_in(store), "which is its use"
    assert c.is_in(store)
    assert left_in(tmp_path) == {"a.act", "c.act"}
    assert all(map(torch.equal, mapped, b.tensors))


def test_a_removed_file_is_not_held_on_the_disk_for_long(tmp_path):
    block, store = Block(), ActivationStore(tmp_path, DISK)
    assert block.is_in(store)
    (tmp_path / "a.act").unlink()
    assert block.is_in(store), "its map is still there"
    assert Block("next").is_in(store)
    assert block.computed == 1
    assert block.is_in(store)
    assert block.computed == 2


def test_a_smaller_budget_holds_from_the_start(tmp_path):
    for key in "abc":
        Block(key).of(ActivationStore(tmp_path, DISK))
    ActivationStore(tmp_path, Budget(memory=0, disk=2000))
    assert left_in(tmp_path) == {"b.act", "c.act"}


@pytest.mark.parametrize("seed", range(5))
def test_no_sequence_of_gets_exceeds_a_budget_or_touches_other_files(tmp_path, seed):
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
        assert sum(file.stat().st_size for file in tmp_path.glob("*.act")) <= budget.disk
        assert not [*tmp_path.glob("*.partial"), *tmp_path.glob("[0-9]*.lock")]
    assert (tmp_path / "notes.txt").read_text() == "mine" * 1000


@pytest.mark.parametrize("name", ["memory", "disk"])
def test_a_budget_is_not_negative(name):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 0, got -1"):
        Budget(**{"memory": 0, "disk": 0, name: -1})


# Faults


def _flipped(at: int):
    def flip(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[at] ^= 4
        file.write_bytes(content)

    return flip


def _of_other_rows(file: Path) -> None:
    store = ActivationStore(file.parent, DISK)
    store.get("other", rows=5, compute=lambda: iter([(torch.zeros(5),)]), nbytes=20)
    file.with_stem("other").replace(file)


DAMAGES = {
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: os.truncate(file, file.stat().st_size - 1),
    "longer": lambda file: os.truncate(file, file.stat().st_size + 1),
    "another file": lambda file: file.write_text("[activations]\n" * 100),
    "version": _flipped(6),
    "header's length": _flipped(11),
    "header": _flipped(30),
    "first tensor": _flipped(300),
    "last tensor": _flipped(-1),
    "other rows": _of_other_rows,
}


@pytest.mark.parametrize("budget", [BOTH, DISK])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_noticed_said_and_computed_again(tmp_path, said, damage, budget):
    Block().of(ActivationStore(tmp_path, budget))
    DAMAGES[damage](tmp_path / "a.act")
    block, store = Block(), ActivationStore(tmp_path, budget, say=said.append)
    assert block.is_in(store)
    assert block.computed == 1
    assert len(said) == 1
    assert f"{tmp_path / 'a.act'}: " in said[0]
    assert Block().is_in(later := ActivationStore(tmp_path, budget, say=said.append))
    assert block.is_in(later)
    assert (block.computed, len(said)) == (1, 1)


def test_a_damaged_file_goes_even_where_nothing_is_filled(tmp_path, said):
    (tmp_path / "a.act").write_text("damaged")
    assert Block().of(ActivationStore(tmp_path, DISK, say=said.append), fill=False) is None
    assert (left_in(tmp_path), len(said)) == (set(), 1)


@pytest.mark.parametrize("budget", [BOTH, DISK])
def test_a_folder_in_a_files_place_is_removed(tmp_path, said, budget):
    (tmp_path / "a.act").mkdir()
    block, store = Block(), ActivationStore(tmp_path, budget, say=said.append)
    assert [block.is_in(store) for _ in range(2)] == [True] * 2
    assert block.computed == 1
    assert len(said) == 1
    assert (tmp_path / "a.act").is_file()


def test_the_last_bytes_of_a_disk_are_left_to_others(tiny_disk, said, monkeypatch):
    store = ActivationStore(tiny_disk, DISK, say=said.append)
    assert Block("a", width=1400).is_in(store)
    monkeypatch.setattr("search.activations.shelf.SPARE", 200_000)
    assert Block("b", width=1400).of(store) is None
    assert [line.startswith("The disk takes no more activations") for line in said] == [True]
    ActivationStore(tiny_disk, DISK)
    assert left_in(tiny_disk) == set(), "and given back to them"


def test_no_flipped_bit_is_ever_read(tmp_path):
    Block().of(ActivationStore(tmp_path, DISK))
    file = tmp_path / "a.act"
    whole, draw = file.read_bytes(), random.Random(0)
    for _ in range(100):
        content = bytearray(whole)
        content[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        file.write_bytes(content)
        assert Block().is_in(ActivationStore(tmp_path, DISK, say=lambda _: None))


@pytest.mark.fault
def test_a_disk_that_fills_is_said_once_and_left_alone(tmp_path, said, monkeypatch, tell):
    def full(piece: memoryview, file: BinaryIO, *, at: int) -> None:
        tried.append(at)
        if at > 500:
            raise OSError(ENOSPC, os.strerror(ENOSPC))
        put(piece, file, at=at)

    put, tried = blocks._put, []
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "_put", full)
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
    assert left_in(tiny_disk) == {"b.act", "c.act"}


def test_a_disk_that_is_full_when_it_is_written_to(tiny_disk, said, monkeypatch):
    # As with a quota: there seems to be room.
    monkeypatch.setattr("search.activations.shelf.shutil.disk_usage", lambda _: type("Usage", (), {"free": 10 * MB}))
    assert Block("large", width=10_000).of(ActivationStore(tiny_disk, DISK, say=said.append)) is None
    assert left_in(tiny_disk) == set()
    assert len(said) == 1


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


@pytest.mark.parametrize("budget", [BOTH, DISK, MEMORY])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_compute_raises_goes_through_and_leaves_nothing(tmp_path, said, budget, error):
    def fails():
        yield tuple(tensor[:3] for tensor in block.tensors)
        raise error

    block, store = Block(), ActivationStore(tmp_path, budget, say=said.append)
    with pytest.raises(error):
        store.get(block.key, rows=ROWS, compute=fails, nbytes=block.nbytes)
    assert left_in(tmp_path) == set()
    assert block.is_in(store)
    assert (block.computed, said) == (1, [])


@pytest.mark.parametrize("budget", [BOTH, DISK, MEMORY])
@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [torch.zeros(ROWS - 1, 2)],
        [torch.zeros(ROWS, 2), torch.zeros(1, 2)],
        [torch.zeros(4, 2), torch.zeros(4, 3)],
        [torch.zeros(4, 2), torch.zeros(4, 2).double()],
    ],
)
def test_chunks_that_make_no_block_are_refused(tmp_path, budget, chunks):
    store = ActivationStore(tmp_path, budget)
    with pytest.raises(ValueError, match=r"rows together|no part of|no activations"):
        store.get("a", rows=ROWS, compute=lambda: iter([(chunk,) for chunk in chunks]), nbytes=64)
    assert left_in(tmp_path) == set()


@pytest.mark.parametrize("expected", [1, 100_000])
def test_a_wrong_expectation_exceeds_no_budget(tmp_path, said, expected):
    block = Block(width=1000)
    store = ActivationStore(tmp_path, Budget(memory=1000, disk=200_000), say=said.append)
    found = [store.get("a", rows=ROWS, compute=block.compute, nbytes=expected) for _ in range(2)]
    assert all(map(torch.equal, found[1], block.tensors))
    small = ActivationStore(tmp_path / "small", Budget(memory=1000, disk=2000), say=said.append)
    assert [small.get("a", rows=ROWS, compute=block.compute, nbytes=expected) for _ in range(2)] == [None, None]
    assert block.computed == (2 if expected == 1 else 1)
    assert len(said) == 1


# Half precision


def test_halves_are_near_and_other_dtypes_stay():
    values, index = torch.randn(4, 3), torch.arange(4)
    half, same = halved((values, index))
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), values, rtol=1e-3, atol=1e-4)
    assert same is index


@pytest.mark.parametrize("value", [1e5, -1e5, float("inf"), float("nan")])
def test_a_block_that_float16_cant_hold_is_not_kept(tmp_path, said, value):
    def compute():
        calls.append(value)
        yield halved((torch.ones(1, 2),))
        yield halved((torch.tensor([[1.0, value]]),))

    calls: list[float] = []
    store = ActivationStore(tmp_path, BOTH, say=said.append)
    assert [store.get(key, rows=2, compute=compute, nbytes=8) for key in "aab"] == [None, None, None]
    assert len(calls) == 2
    assert len(said) == 1
    assert left_in(tmp_path) == set()
    with pytest.raises(NotFinite):
        halved((torch.tensor([value]),))
