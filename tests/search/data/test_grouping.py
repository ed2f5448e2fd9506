"""Groups stay together, from the study file's `group_by` to every split."""

import re
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st

from search.data.examples import Examples, RawData, TaskData
from search.data.grouping import Grouping
from search.data.images import rotations
from search.data.load import load_data
from search.data.selection import select
from search.data.split_checks import check_groups, missing_classes
from search.data.splits import Splits
from search.errors import TaskError
from tests.search.data.patients import KINDS, patients_in, write

WARDS = st.lists(st.tuples(st.integers(1, 5), st.sampled_from([(0,), (1,), (0, 1), (1, 0)])), min_size=8, max_size=14)
"""Patients, each with a number of examples, and with one label or two."""


def laid_out(ward, order):
    """Return the patients and labels of a ward's examples, in any order; both classes are in four patients."""
    ward = [*ward, (2, (0, 1)), (2, (1, 0)), (2, (0, 1)), (2, (1, 0))]
    pairs = [(name, labels[i % len(labels)]) for name, (count, labels) in enumerate(ward) for i in range(count)]
    order.shuffle(pairs)
    return [[*column] for column in zip(*pairs, strict=True)]


def load(kind, **settings):
    """Load the data that `write` wrote; the user's own code has no option `test`."""
    name, group_by, options = KINDS[kind]
    options = {key: value for key, value in {**options, **settings}.items() if value is not None}
    if ":" in name:
        options.pop("test", None)
    return load_data(name, options, where="[task] data", group_by=group_by)


def sides(split, whose):
    return [{*whose[part].tolist()} for part in (split.train, split.validate, split.test)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12)
@given(
    ward=WARDS,
    order=st.randoms(use_true_random=False),
    test=st.sampled_from(["cv", 0.3]),
    part=st.sampled_from([None, [0.0, 0.8], [0.3, 1.0]]),
)
def test_no_patient_is_on_two_sides(kind, ward, order, test, part):
    """Of any repeat at any size, in every kind of data, held out or cross-validated, whole or a slice."""
    patients, labels = laid_out(ward, order)
    with TemporaryDirectory() as folder, chdir(folder):
        write(kind, Path(folder), patients, labels)
        data = load(kind, test=test, part=part)
        whose = np.array(patients_in(kind, data))
    splits = Splits.of(data, seed=1, epoch_examples=None)
    pairs = {*zip(whose.tolist(), splits.groups.tolist(), strict=True)}
    assert len(pairs) == len({*whose.tolist()}) == len({*splits.groups.tolist()}), "a group is a patient"
    assert part is not None or sorted(whose.tolist()) == sorted(patients)
    for size in {2, splits.all // 2, splits.all}:
        for repeat in range(7):
            split = splits.split(repeat=repeat, size=size)
            assert len(split.train) == size
            assert sum(map(len, sides(split, whose))) == len(set().union(*sides(split, whose)))


@settings(max_examples=25)
@given(ward=WARDS, order=st.randoms(use_true_random=False), at=st.floats(0.1, 0.9))
def test_slices_share_no_group(ward, order, at):
    """Disjoint slices of the same data: one can be the source of the other."""
    patients, labels = map(torch.tensor, laid_out(ward, order))
    raw = RawData(pool=Examples(patients, labels, patients), test=None, classes=("a", "b"))
    try:
        parts = [select(raw, part=part, test="cv").pool.inputs.tolist() for part in ([0, at], [at, 1])]
    except TaskError:  # one group is larger than the other slice
        event("a slice is empty")
        return
    assert not {*parts[0]} & {*parts[1]}
    assert sorted(parts[0] + parts[1]) == sorted(patients.tolist())


def test_broken_and_turned_images_keep_their_groups(tmp_path, monkeypatch):
    """All examples made of others have their groups."""
    monkeypatch.chdir(tmp_path)
    write("folder", tmp_path, [number // 4 for number in range(40)], [number % 2 for number in range(40)])
    data = load("folder", test=0.3)
    turned = rotations(data)
    for part, other in zip(data.parts.values(), turned.parts.values(), strict=True):
        assert other.groups.tolist() == part.groups.repeat_interleave(4).tolist()
    chosen = load("folder", test=0.3, classes={"x": ["class 0"], "y": ["class 1"]})
    assert chosen.pool.groups.tolist() == data.pool.groups.tolist()


@pytest.mark.parametrize(
    ("kind", "group_by", "message"),
    [
        ("folder", "(p", r"it is no regular expression: missing \), .*; allowed: one that finds the group"),
        ("folder", r"q(\d+)", "16 of 16 file names have no such group, the first is p0_0.png"),
        ("folder", r"p(\d+)_1\.png", "15 of 16 file names have no such group, the first is p0_0.png"),
        ("folder", r"p\d+_(x)?", "16 of 16 file names have no such group"),
        ("npz", "ward", "scans.npz has no array 'ward'; allowed: x, y, patient, or \"package.module:function\""),
        ("npz", "x", r"scans.npz has 'x' of shape \(16, 2\); allowed: \(16,\), a group an example"),
        ("npz", "tests.search.data.patients:nobody", r"it can't be imported: AttributeError"),
        ("npz", "tests.search.data.patients:KINDS", "it is of type dict; allowed: a function of one example"),
        ("npz", "tests.search.data.patients:patient_of", "it fails for example 0: IndexError"),
        ("npz", "builtins:list", "it fails for example 0: TypeError: unhashable type: 'list'"),
        ("npz", "builtins:iter", "it fails for example 0: TypeError: a iterator equals nothing but itself"),
        ("npz", "builtins:print", "16 of 16 examples without a group, the first is number 0"),
        ("texts", "ward", "notes.csv has no column 'ward'; its columns: text, patient, label"),
        ("series", "ward", "series.csv has no column 'ward'; its columns: series, step, value, label, patient"),
        ("series", "step", "series.csv, line 3: series 's0' has two groups; allowed: one each"),
        ("items", "patient", 'these data have no such names; allowed: "package.module:function"'),
        ("own", "builtins:str", "its examples have groups of their own; leave one of them out"),
    ],
)
def test_bad_group_by_is_one_line(tmp_path, monkeypatch, kind, group_by, message):
    """It names data, key and value, then what is allowed."""
    monkeypatch.chdir(tmp_path)
    write(kind, tmp_path, [0, 1] * 8, [0, 1] * 8)
    name, _, options = KINDS[kind]
    found = rf"^\[task\] data = '{re.escape(name)}': group_by = {re.escape(repr(group_by))}: {message}"
    with pytest.raises(TaskError, match=found) as caught:
        load_data(name, options, where="[task] data", group_by=group_by)
    assert "\n" not in str(caught.value)


def test_data_without_groups_refuse_group_by(tmp_path, monkeypatch):
    """Digits have none, and a forecast's windows are of one series."""
    monkeypatch.chdir(tmp_path)
    write("series", tmp_path, [0, 1] * 8, [0, 1] * 8)
    for name, options in (("digits", {}), ("series.csv", {"target": "value", "window": 2})):
        with pytest.raises(TaskError, match="group_by = 'patient': these data have no groups; leave it out"):
            load_data(name, options, where="[task] data", group_by="patient")


def test_functions_see_what_identifies_an_example(tmp_path, monkeypatch):
    """The path of an image, the cells of a row, the row of an array, an item."""
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr("tests.search.data.patients.patient_of", lambda item: seen.append(item) or len(seen))
    for kind in ("folder", "npz", "texts", "series", "items"):
        write(kind, tmp_path, [0, 1] * 8, [0, 1] * 8)
        load_data(KINDS[kind][0], KINDS[kind][2], where="data", group_by="tests.search.data.patients:patient_of")
    assert seen[0] == "scans/class 0/p0_0.png"
    assert seen[16].tolist() == [0, 0]
    assert seen[33] == {"text": "1 1", "patient": "1", "label": "1"}
    assert seen[49] == {"series": "s1", "step": "0", "value": "1", "label": "1", "patient": "1"}
    assert [one.tolist() if torch.is_tensor(one) else one for one in seen[65]] == [[1.0, 1.0], 1]
    assert len(seen) == 5 * 16


def test_column_of_groups_is_no_channel(tmp_path, monkeypatch):
    """A patient's number must not be learned from."""
    monkeypatch.chdir(tmp_path)
    write("series", tmp_path, [0, 1] * 8, [0, 1] * 8)
    assert load("series").pool.inputs.shape == (16, 2, 1)


def test_names_are_compared_as_text_without_blanks():
    """Numbers of any type, words and bytes; other values as Python compares them."""
    names = [7, "7 ", b"7", 7.0, np.int32(7), torch.tensor(7), torch.tensor([7.0]), np.str_("\t7")]
    grouping = Grouping(by="column")
    assert grouping.of([], lambda _: names).tolist() == [0] * len(names)
    assert grouping.of([], lambda _: [8, ("a", 1), ("a", 1.0), "7"]).tolist() == [1, 2, 2, 0]
    with pytest.raises(TaskError, match="3 of 4 examples without a group, the first is number 1"):
        grouping.of([], lambda _: ["a", " ", None, float("nan")])


@pytest.mark.parametrize("own", ["same file", "other file"])
def test_own_test_set_of_the_same_groups_is_refused(tmp_path, monkeypatch, own):
    """With the count and the first names."""
    monkeypatch.chdir(tmp_path)
    x, whose = np.zeros((40, 2), dtype=np.float32), np.arange(40) // 4
    sets = {"x": x, "y": whose % 2, "patient": whose}
    held = {"x": x + 1, "y": whose % 2, "patient": whose + 8.0}
    apart = {**held, "patient": whose + 10}
    options = {} if own == "same file" else {"test": "held.npz"}

    def save(one, other):
        np.savez("held.npz", **other)
        np.savez("one.npz", **one, **({f"{key}_test": other[key] for key in other} if own == "same file" else {}))

    save(sets, held)
    with pytest.raises(TaskError, match=r"'patient': 2 groups are in the pool and in the test set: 8, 9; allowed"):
        load_data("one.npz", options, where="data", group_by="patient")
    save(sets, apart)
    assert {*load_data("one.npz", options, where="data", group_by="patient").test.groups.tolist()} == {*range(10, 20)}


def test_groups_of_only_one_part_are_refused():
    """Nobody knows the groups of the others."""
    part = Examples(torch.zeros(8, 1), torch.arange(8) % 2)
    grouped = Examples(torch.ones(8, 1), torch.arange(8) % 2, torch.arange(8))
    with pytest.raises(TaskError, match="The pool set has groups and the test set has none; allowed: all, or none"):
        TaskData(pool=grouped, test=part, classes=("a", "b"))
    for groups in (torch.arange(8).float(), torch.arange(7), [0] * 8):
        with pytest.raises(TaskError, match=r"The pool set's groups must be int64 of shape \(8,\), got "):
            TaskData(pool=Examples(part.inputs, part.targets, groups), test=part.subset(torch.arange(0)), classes="ab")


def test_too_few_groups_are_refused_with_their_count():
    """Two to learn from and two to test on, or four to cross-validate."""

    def splits(groups, test=()):
        return Splits(
            labels=np.arange(len(groups)) % 2,
            validation=0,
            test=len(test),
            seed=0,
            cross_validated=not test,
            groups=np.array([*groups, *test]),
        )

    with pytest.raises(TaskError, match=r"^here: 3 groups to cross-validate; allowed: at least 4"):
        check_groups(splits([0, 1, 2] * 4), where="here")
    check_groups(splits([0, 1, 2, 3] * 4), where="here")
    with pytest.raises(TaskError, match=r"^here: 1 group in the pool and 2 in the test set; allowed: at least 2 in"):
        check_groups(splits([0] * 8, [1, 2]), where="here")
    with pytest.raises(TaskError, match=r"^here: 2 groups in the pool and 1 in the test set"):
        check_groups(splits([0, 1] * 8, [2, 2]), where="here")
    check_groups(splits([0, 1] * 8, [2, 3]), where="here")


def test_draws_that_lack_a_class_get_a_note():
    """Ten labels of whole patients are of one or two, each with one label."""
    whose = np.repeat(np.arange(20), 10)
    splits = Splits(labels=whose % 2, validation=0, test=0, seed=0, cross_validated=True, groups=whose)
    [note] = missing_classes(splits, [10, 100], ["ill", "well"])
    assert re.match(r"at size 10, 6 of the first 6 draws of whole groups lack a class \(ill, well\)", note)
    assert not missing_classes(splits, [20, "all"], ["ill", "well"])


def test_notes_count_the_groups(tmp_path, monkeypatch):
    """So that a key that tells examples apart, not patients, is seen."""
    monkeypatch.chdir(tmp_path)
    write("folder", tmp_path, [number // 4 for number in range(40)], [number % 2 for number in range(40)])
    whole, each = (load_data("scans", where="data", group_by=by).notes[0] for by in (r"p(\d+)", r"p(\d+_\d+)"))
    assert whole == r"data = 'scans': group_by = 'p(\\d+)': 40 examples of 10 groups, each kept whole in every split."
    assert "each of 40 examples is a group of its own, so none are kept together" in each
