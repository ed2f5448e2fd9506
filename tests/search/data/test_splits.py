import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from search.data.examples import Examples, TaskData
from search.data.load import load_data
from search.data.split_checks import check_sizes
from search.data.splits import Splits
from search.errors import TaskError

SIZES = [50, 100, 200, 400, 800]


def splits_of(labels, **fields):
    return Splits(**{"labels": np.asarray(labels), "validation": 0, "test": 0, "seed": 0} | fields)


@pytest.fixture(scope="module")
def digits():
    return Splits.of(load_data("digits", where="test"), seed=0, epoch_examples=320)


def test_split_trains_on_all_n_and_is_nested(digits):
    """Size n trains on n labels, the smaller size's first."""
    before = digits.split(repeat=1, size=50)
    for size in SIZES:
        split = digits.split(repeat=1, size=size)
        assert len(split.train) == size
        assert split.train[: len(before.train)].tolist() == before.train.tolist()
        before = split


def test_split_validates_on_labels_that_were_not_drawn(digits):
    """The same ones at each size, as long as enough are left."""
    few, most = (digits.split(repeat=2, size=size) for size in (50, 800))
    assert len(few.validate) == 240
    assert few.validate.tolist() == digits.split(repeat=2, size=400).validate.tolist()
    assert len(most.validate) == 847 - 800
    for split in (few, most):
        assert not {*split.train} & {*split.validate}
        assert split.test.tolist() == list(range(847, 1347))


def test_train_and_validation_are_as_balanced_as_the_pool(digits):
    """Each class is there by its share."""
    shares = np.bincount(digits.labels) / len(digits.labels)
    for size in SIZES:
        split = digits.split(repeat=3, size=size)
        for part in (split.train, split.validate):
            counts = np.bincount(digits.labels[part], minlength=10)
            assert np.abs(counts - shares * len(part)).max() < 1.5


def test_repeats_differ_and_are_fixed_by_their_seed(digits):
    """A repeat is its number and the seed."""
    one, other = (digits.split(repeat=repeat, size=100).train for repeat in (0, 1))
    data = load_data("digits", where="test")
    again, reseeded = (Splits.of(data, seed=s, epoch_examples=320).split(repeat=0, size=100).train for s in (0, 1))
    assert one.tolist() == again.tolist()
    assert one.tolist() != other.tolist()
    assert one.tolist() != reseeded.tolist()


@given(st.lists(st.integers(2, 40), min_size=2, max_size=6), st.integers(0, 5), st.data())
def test_each_class_trains_at_any_imbalance(counts, seed, data):
    """Even where the size is the number of classes."""
    labels = np.repeat(np.arange(len(counts)), counts)
    size = data.draw(st.integers(len(counts), len(labels)))
    split = splits_of(labels, seed=seed).split(repeat=0, size=size)
    assert {*labels[split.train]} == {*range(len(counts))}
    assert len(split.train) == size
    assert not {*split.train} & {*split.validate}


@given(st.lists(st.integers(2, 20), min_size=2, max_size=5), st.integers(0, 3))
def test_cross_validation_tests_each_label_once(counts, seed):
    """The repeats of one shuffle test each label once; none that trains or validates is tested."""
    labels = np.repeat(np.arange(len(counts)), counts)
    splits = splits_of(labels, seed=seed, cross_validated=True)
    folds = max(2, min(5, max(counts)))
    found = [splits.split(repeat=repeat, size=splits.all) for repeat in range(1, folds + 1)]
    assert sorted(np.concatenate([split.test for split in found]).tolist()) == list(range(len(labels)))
    for split in found:
        assert len(split.train) == splits.all
        assert not {*split.train, *split.validate} & {*split.test}
        assert {*labels[split.train]} == {*range(len(counts))}


def test_own_validation_data_validate_and_never_train():
    """A data set's own validation part takes the place of labels that were not drawn."""
    part = Examples(torch.zeros(60, 2), torch.arange(60) % 2)
    data = TaskData(pool=part, validation=part.subset(torch.arange(20)), test=part, classes=("a", "b"))
    splits = Splits.of(data, seed=0, epoch_examples=32)
    split = splits.split(repeat=1, size=60)
    assert sorted(split.validate.tolist()) == list(range(60, 80))
    assert sorted(split.train.tolist()) == list(range(60))
    assert split.test.tolist() == list(range(80, 140))


def test_all_is_what_there_is(digits):
    """With a test set the pool; in cross-validation what the largest test part leaves."""
    assert digits.sizes(["all", 50]) == [50, 847]
    assert splits_of(np.arange(120) % 2, cross_validated=True).sizes(["all"]) == [96]
    with pytest.raises(TaskError, match=r"sizes: 847 is what there is, so it is given twice"):
        digits.sizes([847, "all"])


def test_few_undrawn_labels_are_not_explored(digits):
    """At least 50 must validate, and a fifth of the size."""
    assert [digits.explores(size) for size in (50, 400, 700, 800, 847)] == [True, True, True, False, False]


def test_impossible_sizes_are_refused(digits):
    """By the number of classes and of labels."""
    for size in (9, 848):
        with pytest.raises(TaskError, match=f"sizes: {size} is not possible; allowed: 10 .* to 847"):
            check_sizes(digits, [50, size], classes="0123456789")
    with pytest.raises(TaskError, match="3 classes have too few labels: 'c' has 1, 'd' has 1, 'e' has 0"):
        check_sizes(splits_of([0, 0, 1, 1, 2, 3]), [5], classes="abcde")
    with pytest.raises(TaskError, match=r"class 'c' has 1 label in the pool; each class needs at least 2"):
        check_sizes(splits_of([0, 0, 1, 1, 2]), [4], classes="abc")
    with pytest.raises(TaskError, match=r"\[task\] test = 'cv': class 'b' has 1 label in the pool"):
        check_sizes(splits_of([0, 0, 0, 1], cross_validated=True), [2], classes="ab")
    with pytest.raises(TaskError, match=r"\[task\] data: all examples are of one class"):
        check_sizes(splits_of([0, 0, 0]), [2], classes="a")


def test_impossible_sizes_of_numbers_are_refused():
    """Regression needs ten examples."""
    splits = splits_of(np.zeros((30, 2), dtype=np.float32))
    check_sizes(splits, [10, 30], classes=())
    for size in (9, 31):
        with pytest.raises(TaskError, match=f"sizes: {size} is not possible; allowed: 10 to 30"):
            check_sizes(splits, [size], classes=())


def test_all_is_what_every_shuffle_leaves():
    """A later shuffle has no larger part than the first ones, so that all n train in every repeat."""
    counts = np.random.default_rng(0).integers(1, 20, 40)
    whose = np.repeat(np.arange(40), counts)
    labels = np.random.default_rng(1).integers(0, 2, len(whose))
    splits = Splits(labels=labels, validation=0, test=0, seed=0, cross_validated=True, groups=whose)
    assert {len(splits.split(repeat=repeat, size=splits.all).train) for repeat in range(200)} == {splits.all}
