from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from search.data.examples import Examples, RawData
from search.data.selection import select
from search.errors import TaskError


def numbered(counts, **fields):
    """Make raw data in which each example's input is its own number."""
    targets = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    pool = Examples(torch.arange(float(len(targets))), targets)
    return RawData(**{"pool": pool, "test": None, "classes": tuple("abcdef"[: len(counts)])} | fields)


def ids(examples):
    return set(examples.inputs.tolist())


@given(st.lists(st.integers(1, 30), min_size=2, max_size=6), st.floats(0.1, 0.9), st.integers(0, 99))
def test_slices_are_a_partition_whatever_the_labels(counts, at, seed):
    raw = numbered(counts)
    order = torch.randperm(len(raw.pool), generator=torch.Generator().manual_seed(seed))
    others = replace(raw, pool=replace(raw.pool, targets=raw.pool.targets[order]))
    try:
        one = select(raw, part=[0, at], test=0.3)
        other = select(others, part=[at, 1], test=0)
    except TaskError as error:  # too few to slice or to hold out
        if "has no examples" in str(error) or "leaves none" in str(error):
            return
        raise
    held = ids(one.pool) | ids(one.test)
    assert not held & ids(other.pool)
    assert held | ids(other.pool) == ids(raw.pool)
    assert len(ids(one.pool)) + len(ids(one.test)) == len(held)


def test_a_slice_is_fixed_and_spread_over_the_data():
    raw = numbered([1000, 400])
    half = select(raw, part=[0.5, 1.0], test=0)
    assert len(half.pool) == 700
    assert 470 <= int((half.pool.targets == 0).sum()) <= 530
    assert ids(half.pool) == ids(select(raw, part=[0.5, 1.0], test=0).pool)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.floats(0.05, 0.9))
def test_a_class_keeps_two_and_holds_one_out(counts, share):
    try:
        data = select(numbered(counts), test=share)
    except TaskError:
        assert max(counts) <= 2
        return
    for label, count in enumerate(counts):
        pool, test = (int((part.targets == label).sum()) for part in (data.pool, data.test))
        assert pool + test == count
        assert pool >= min(2, count)
        assert test >= min(1, max(0, count - 2))


def test_a_test_set_of_the_datas_own_stays_whole():
    raw = numbered([10, 10])
    raw = replace(raw, test=raw.pool)
    assert len(select(raw, part=[0, 0.5]).test) == 20
    with pytest.raises(TaskError, match=r"test = 0.3, but these data have a test set of their own"):
        select(raw, test=0.3)


def test_classes_are_regrouped_and_the_others_dropped():
    data = select(numbered([3, 4, 5, 6]), classes={"first": ["a", 2], "last": ["d"]}, test=0)
    assert data.classes == ("first", "last")
    assert data.pool.targets.bincount().tolist() == [8, 6]
    assert ids(data.pool) == {*range(3), *range(7, 18)}


def test_a_number_means_the_label_of_that_name_first():
    raw = numbered([1, 1, 1], classes=("1", "2", "3"))
    assert select(raw, classes={"x": [1], "y": [3]}, test=0).pool.inputs.tolist() == [0, 2]


def test_classes_of_numbers_are_refused():
    part = Examples(torch.zeros(3, 1), torch.zeros(3))
    with pytest.raises(TaskError, match="option classes is for classification"):
        select(RawData(pool=part, test=part, classes=()), classes={"a": [0], "b": [1]})


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 2)), min_size=4, max_size=30), st.floats(0.05, 0.6))
def test_held_out_groups_leave_each_class_two_labels(groups, share):
    """At least two groups test, of large ones more labels than the share; a class keeps two for the pool."""
    whose = torch.repeat_interleave(torch.arange(len(groups)), torch.tensor([count for count, _ in groups]))
    targets = torch.tensor([label for count, label in groups for _ in range(count)])
    raw = RawData(pool=Examples(whose, targets, whose), test=None, classes=("a", "b", "c"))
    try:
        data = select(raw, test=share)
    except TaskError:
        left = torch.bincount(targets, minlength=3).tolist()
        assert not any(left[label] - count >= 2 for count, label in groups)
        return
    held, kept = {*data.test.groups.tolist()}, {*data.pool.groups.tolist()}
    assert not held & kept
    before, after = (torch.bincount(part, minlength=3) for part in (targets, data.pool.targets))
    assert ((after >= 2) | (after == before)).all()
    assert len(held) <= 2 or len(data.test) <= share * len(targets) + 0.5


def test_a_rare_class_is_kept_to_learn_from():
    """A class of one patient stays in the pool, and is tested by none."""
    whose = torch.arange(600) // 20
    targets = (whose == 7).long()
    raw = RawData(pool=Examples(whose, targets, whose), test=None, classes=("well", "ill"))
    data = select(raw, test=0.2)
    assert [int((part.targets == 1).sum()) for part in (data.pool, data.test)] == [20, 0]
    assert len(data.test) == 120


def test_few_groups_are_cross_validated():
    """However many labels they have; with more a fifth is held out."""
    for groups, crossed in ((99, True), (100, False)):
        whose = torch.arange(1200) % groups
        data = select(RawData(pool=Examples(whose, torch.arange(1200) % 2, whose), test=None, classes=("a", "b")))
        assert data.cross_validated == crossed
        assert ("99 groups and no test set: judged by cross-validation" in data.notes[-1]) == crossed


def test_a_giant_group_is_not_all_that_is_left():
    """Two groups stay to learn from, however many labels one of them has."""
    whose = (torch.arange(1200) - 1100).clamp(min=0)
    data = select(RawData(pool=Examples(whose, torch.arange(1200) % 2, whose), test=None, classes=("a", "b")), test=0.2)
    assert len({*data.pool.groups.tolist()}) == 2
    assert len({*data.test.groups.tolist()}) == 98
