from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from search.data.examples import Examples, TaskData
from search.data.splits import apply_splits, class_indices
from search.errors import TaskError


def numbered(counts):
    """Each example's input is its own number."""
    targets = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    pool = Examples(torch.arange(float(len(targets))), targets)
    return TaskData(pool=pool, test=pool.subset(torch.arange(0)), classes=tuple("abcdef"[: len(counts)]))


def ids(examples):
    return set(examples.inputs.tolist())


@given(st.lists(st.integers(1, 30), min_size=2, max_size=6), st.floats(0.1, 0.9), st.integers(0, 99))
def test_slices_share_nothing_and_miss_nothing_whatever_their_labels_classes_and_tests(counts, at, seed):
    data = numbered(counts)
    order = torch.randperm(len(data.pool), generator=torch.Generator().manual_seed(seed))
    others = replace(data, pool=replace(data.pool, targets=data.pool.targets[order]))
    try:
        one = apply_splits(data, where="data", part=[0, at], hold_out=0.3)
        other = apply_splits(others, where="data", part=[at, 1])
    except TaskError as error:  # too few to slice or to hold out
        if "has no examples" in str(error) or "leaves none" in str(error):
            return
        raise
    held = ids(one.pool) | ids(one.test)
    assert not held & ids(other.pool)
    assert held | ids(other.pool) == ids(data.pool)
    assert len(ids(one.pool)) + len(ids(one.test)) == len(held)


def test_a_slice_is_spread_over_the_data_and_the_same_every_time():
    data = numbered([1000, 400])
    half = apply_splits(data, where="data", part=[0.5, 1.0])
    assert len(half.pool) == 700
    assert 470 <= int((half.pool.targets == 0).sum()) <= 530
    assert ids(half.pool) == ids(apply_splits(data, where="data", part=[0.5, 1.0]).pool)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.floats(0.05, 0.9))
def test_each_class_keeps_two_for_the_pool_and_gives_one_to_the_test_where_it_can(counts, share):
    try:
        data = apply_splits(numbered(counts), where="data", hold_out=share)
    except TaskError:
        assert max(counts) <= 2
        return
    for label, count in enumerate(counts):
        pool, test = (int((part.targets == label).sum()) for part in (data.pool, data.test))
        assert pool + test == count
        assert pool >= min(2, count)
        assert test >= min(1, max(0, count - 2))


def test_a_test_set_that_the_data_bring_stays_whole():
    data = numbered([10, 10])
    own = TaskData(pool=data.pool, test=data.pool, classes=data.classes)
    assert len(apply_splits(own, where="data", part=[0, 0.5]).test) == 20


def test_classes_are_regrouped_by_name_and_by_number_and_the_others_dropped():
    data = apply_splits(numbered([3, 4, 5, 6]), where="data", classes={"first": ["a", 2], "last": ["d"]})
    assert data.classes == ("first", "last")
    assert data.pool.targets.bincount().tolist() == [8, 6]
    assert ids(data.pool) == {*range(3), *range(7, 18)}


def test_a_number_means_the_label_of_that_name_first():
    targets = torch.arange(3)
    data = TaskData(pool=Examples(targets, targets), test=Examples(targets, targets), classes=("1", "2", "3"))
    assert apply_splits(data, where="data", classes={"x": [1], "y": [3]}).pool.inputs.tolist() == [0, 2]


def test_classes_of_numbers_are_refused():
    part = Examples(torch.zeros(3, 1), torch.zeros(3))
    with pytest.raises(TaskError, match="option classes is for classification"):
        apply_splits(TaskData(pool=part, test=part, classes=()), where="data", classes={"a": [0], "b": [1]})


def test_labels_sort_by_number_where_all_are_whole_numbers():
    assert class_indices(["10", "9", "10"])[1] == ("9", "10")
    indices, names = class_indices(["b", "10", "a"])
    assert names == ("10", "a", "b")
    assert indices.tolist() == [2, 0, 1]
