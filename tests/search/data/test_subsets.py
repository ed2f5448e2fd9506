import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.data.load import load_data
from search.data.subsets import check_sizes, draw_order
from search.errors import TaskError

SIZES = [50, 100, 200, 400, 800]


@pytest.fixture(scope="module")
def labels():
    return load_data("digits", where="test").pool.targets.numpy()


def test_subsets_are_nested_and_so_are_their_two_parts(labels):
    repeat = draw_order(labels, seed=0, repeat=1)
    previous = (set(), set())
    for size in SIZES:
        train, validation = (set(part.tolist()) for part in repeat.split(size))
        assert len(train) + len(validation) == size
        assert not train & validation
        assert previous[0] <= train
        assert previous[1] <= validation
        previous = train, validation


def test_a_fifth_validates_and_every_class_is_in_both_parts(labels):
    repeat = draw_order(labels, seed=0, repeat=0)
    for size in SIZES:
        train, validation = repeat.split(size)
        assert len(validation) == pytest.approx(0.2 * size, abs=5)
        assert set(labels[train]) == set(labels[validation]) == set(range(10))


def test_subsets_are_as_balanced_as_the_pool(labels):
    shares = np.bincount(labels) / len(labels)
    for size in SIZES:
        order = draw_order(labels, seed=3, repeat=2).order[:size]
        assert np.abs(np.bincount(labels[order]) - shares * size).max() < 1.5


def test_repeats_differ_and_are_fixed_by_their_seed(labels):
    one, other = (draw_order(labels, seed=0, repeat=repeat).order for repeat in (0, 1))
    assert not np.array_equal(one, other)
    assert np.array_equal(one, draw_order(labels, seed=0, repeat=0).order)
    assert not np.array_equal(one, draw_order(labels, seed=1, repeat=0).order)


@given(st.lists(st.integers(2, 40), min_size=2, max_size=6), st.integers(0, 5), st.data())
def test_each_class_trains_and_validates_at_any_imbalance(counts, seed, data):
    labels = np.repeat(np.arange(len(counts)), counts)
    size = data.draw(st.integers(2 * len(counts), len(labels)))
    for part in draw_order(labels, seed=seed, repeat=0).split(size):
        assert set(labels[part]) == set(range(len(counts)))


def test_impossible_sizes_are_refused(labels):
    for size in (19, 848):
        with pytest.raises(TaskError, match=f"sizes: {size} is not possible; allowed: 20 .* to 847"):
            check_sizes(labels, [50, size], classes="0123456789")
    with pytest.raises(TaskError, match=r"\[task\] data: class 'c' has 1 labels in the pool"):
        check_sizes(np.array([0, 0, 1, 1, 2]), [4], classes="abc")
    with pytest.raises(TaskError, match=r"\[task\] data: all examples are of one class"):
        check_sizes(np.array([0, 0, 0]), [2], classes="a")


@given(st.integers(10, 60), st.integers(0, 3), st.sampled_from([(), (1,), (3,)]), st.data())
def test_numbers_are_split_as_one_class(count, seed, columns, data):
    labels = np.zeros((count, *columns), dtype=np.float32)
    smaller = data.draw(st.integers(10, count))
    larger = data.draw(st.integers(smaller, count))
    repeat = draw_order(labels, seed=seed, repeat=0)
    for inner, outer in zip(repeat.split(smaller), repeat.split(larger), strict=True):
        assert set(inner) <= set(outer)
    train, validation = repeat.split(larger)
    assert sorted([*train, *validation]) == sorted(repeat.order[:larger])
    assert len(validation) == pytest.approx(larger / 5, abs=0.6)


def test_impossible_sizes_of_numbers_are_refused():
    labels = np.zeros(30, dtype=np.float32)
    check_sizes(labels, [10, 30], classes=())
    for size in (9, 31):
        with pytest.raises(TaskError, match=f"sizes: {size} is not possible; allowed: 10 to 30"):
            check_sizes(labels, [size], classes=())
