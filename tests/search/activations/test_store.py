"""The store: each block computed once, by whichever process, and nothing kept of a failure."""

import time

import pytest
import torch

from search.activations.block_folder import BlockFolder
from search.activations.store import ActivationStore, Budget, NotFinite, to_float16
from tests.forks import FORKS
from tests.search.activations.counted import BOTH, DISK, MB, MEMORY, ROWS, Block, in_memory, layout_of, left_in


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
    assert left_in(tmp_path) == {"a.npy"}


def test_a_block_that_is_held_is_not_read_again(tmp_path, monkeypatch):
    in_memory, on_disk = Block("a"), Block("b")
    stores = ActivationStore(tmp_path, BOTH), ActivationStore(tmp_path, DISK)
    before = in_memory.of(stores[0]), on_disk.of(stores[1])
    monkeypatch.setattr("search.activations.store.read_array", None)
    monkeypatch.setattr(BlockFolder, "reserve", None)
    assert (in_memory.of(stores[0]), on_disk.of(stores[1])) == before


def test_what_is_not_there_is_not_filled_unless_asked(tmp_path):
    block, store = Block(), ActivationStore(tmp_path, BOTH)
    assert block.of(store, fill=False) is None
    assert block.of(store) is not None
    assert block.of(store, fill=False) is not None
    assert block.computed == 1


def test_compute_may_ask_for_another_block(tmp_path):
    early = Block("early")
    for budget in (BOTH, DISK, Budget(memory=early.nbytes, disk=MB)):
        late, store = Block("late"), ActivationStore(tmp_path / str(budget.memory), budget)

        def compute(store=store):
            values, index = early.of(store)
            yield values * 2, index

        values, _ = store.get("late", late.layout, compute)
        assert torch.equal(values, early.tensors[0] * 2)
        assert in_memory(store) <= budget.memory


def race(folder, memory, barrier):
    """Get a block that takes a while, together with another process."""

    def compute():
        with (folder / "log").open("a") as log:
            log.write("computed\n")
        for part in range(20):
            time.sleep(0.02)
            yield (torch.full((1, 1000), part),)

    store = ActivationStore(folder / "store", Budget(memory=memory, disk=10**6))
    barrier.wait(300)
    (found,) = store.get("a", layout_of(torch.full((20, 1000), 0)), compute)
    assert torch.equal(found, torch.arange(20)[:, None].expand(20, 1000))


def test_of_two_processes_one_computes_and_the_other_waits(tmp_path):
    barrier = FORKS.Barrier(2)
    racers = [FORKS.Process(target=race, args=(tmp_path, memory, barrier)) for memory in (0, 10**6)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(300)
    assert [racer.exitcode for racer in racers] == [0, 0]
    assert (tmp_path / "log").read_text() == "computed\n"


def write_half(folder, half):
    """Write a part of a block, and hang."""

    def compute():
        yield (torch.ones(10, 1000),)
        yield (torch.ones(10, 1000),)
        half.set()
        time.sleep(60)

    ActivationStore(folder, DISK).get("a", layout_of(torch.ones(30, 1000)), compute)


def test_a_killed_writer_leaves_nothing_that_is_read_or_stays(tmp_path):
    half = FORKS.Event()
    writer = FORKS.Process(target=write_half, args=(tmp_path, half))
    writer.start()
    assert half.wait(300)
    other, store = Block("other"), ActivationStore(tmp_path, DISK)
    assert other.is_in(store)
    names = left_in(tmp_path)
    assert len(names) == 3, "a living writer's file and lock stay"
    assert {"other.npy", "a.lock"} < names
    writer.kill()
    writer.join()
    later = ActivationStore(tmp_path, DISK)
    assert left_in(tmp_path) == {"other.npy"}
    assert Block("a").is_in(later)


@pytest.mark.parametrize("budget", [BOTH, DISK, MEMORY])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_compute_raises_goes_through_and_leaves_nothing(tmp_path, said, budget, error):
    def fails():
        yield tuple(tensor[:3] for tensor in block.tensors)
        raise error

    block, store = Block(), ActivationStore(tmp_path, budget, say=said.append)
    with pytest.raises(error):
        store.get(block.key, block.layout, fails)
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
    with pytest.raises(ValueError, match=r"rows together|no part of"):
        store.get("a", layout_of(torch.zeros(ROWS, 2)), lambda: iter([(chunk,) for chunk in chunks]))
    assert left_in(tmp_path) == set()


def test_halves_are_near_and_other_dtypes_stay():
    values, index = torch.randn(4, 3), torch.arange(4)
    half, same = to_float16((values, index))
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), values, rtol=1e-3, atol=1e-4)
    assert same is index


@pytest.mark.parametrize("value", [1e5, -1e5, float("inf"), float("nan")])
def test_a_block_that_float16_cant_hold_is_not_kept(tmp_path, said, value):
    def compute():
        calls.append(value)
        yield to_float16((torch.ones(1, 2),))
        yield to_float16((torch.tensor([[1.0, value]]),))

    calls: list[float] = []
    store = ActivationStore(tmp_path, BOTH, say=said.append)
    assert [store.get(key, layout_of(torch.ones(2, 2).half()), compute) for key in "aab"] == [None, None, None]
    assert len(calls) == 2
    assert len(said) == 1
    assert left_in(tmp_path) == set()
    with pytest.raises(NotFinite):
        to_float16((torch.tensor([value]),))
