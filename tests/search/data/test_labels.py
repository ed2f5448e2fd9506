"""Labels that differ only in spelling."""

import re

import pytest

from search.data.labels import class_indices
from search.errors import TaskError
from tests.search.data.table_files import load_texts, write

TWICE = [("1", "1.0"), ("pos", "Pos"), ("pos", "pos "), ("1,0", "1"), ("01", "1"), ("a  b", "a b"), ("a\u00a0b", "a b")]


def table(*labels):
    return "text|label\n" + "".join(f"film {n}|{label}\n" for n, label in enumerate([*labels, "other"]))


@pytest.mark.parametrize("pair", TWICE)
def test_label_in_two_spellings_is_refused_with_both(tmp_path, pair):
    """The message has both spellings, their rows and lines, and the option."""
    first, second = pair
    file = write(tmp_path / "a.csv", table(first, second, first))
    shown = repr(first).replace("  ", r"\x20\x20")
    said = f"column 'label' spells one class in several ways: {shown} (2 rows, line 2) and {second!r} (1 row, line 3)"
    with pytest.raises(TaskError, match=re.escape(said) + ".*set option spellings = "):
        load_texts(file, delimiter="|")
    joined = load_texts(file, delimiter="|", spellings="join")
    assert joined.pool.targets.tolist() == [joined.classes.index(first)] * 3 + [joined.classes.index("other")]
    kept = load_texts(file, delimiter="|", spellings="keep")
    assert set(kept.classes) == {first.strip(), second.strip(), "other"}


@pytest.mark.parametrize("labels", [("0.0", "1.0"), ("-1", "1"), ("pos ", "neg "), ("1.0", "1.01"), ("a b", "ab")])
def test_labels_that_differ_are_classes(tmp_path, labels):
    """Labels of one form are not refused."""
    data = load_texts(write(tmp_path / "a.csv", table(*labels, *labels)), delimiter="|")
    assert set(data.classes) == {label.strip() for label in labels} | {"other"}


def test_labels_that_look_alike_are_shown_as_escapes(tmp_path):
    """A composed and a decomposed letter look the same."""
    with pytest.raises(TaskError, match=re.escape(r"'caf\xe9' (1 row, line 2) and 'cafe\u0301'")):
        load_texts(write(tmp_path / "a.csv", table("caf\u00e9", "cafe\u0301")), delimiter="|")


def test_test_label_in_another_spelling_is_refused(tmp_path):
    """The test file's spelling is compared with the pool's, and joined with it on request."""
    file = write(tmp_path / "a.csv", table("1", "1"))
    test = write(tmp_path / "b.csv", table("1.0").replace("film", "new"))
    with pytest.raises(TaskError, match=r"b.csv: .* '1.0' \(line 2\) for a class that the other data spell '1'"):
        load_texts(file, delimiter="|", test=test)
    assert load_texts(file, delimiter="|", test=test, spellings="join").test.targets.tolist() == [0, 1]


@pytest.mark.parametrize("missing", ["NA", "#N/A", "NULL"])
def test_missing_label_is_no_class(tmp_path, missing):
    """R, spreadsheets and databases write a missing label as a word."""
    with pytest.raises(TaskError, match=rf"line 3: column 'label' is {missing}; if that is a class"):
        load_texts(write(tmp_path / "a.csv", table("1", missing)), delimiter="|")


def test_numeric_labels_are_sorted_as_numbers():
    """Decimal labels are in the order of their numbers."""
    assert class_indices(["10.0", "2.0", "-1.5"])[1] == ("-1.5", "2.0", "10.0")
    assert class_indices(["10", "b", "2"])[1] == ("10", "2", "b")
