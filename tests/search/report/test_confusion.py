"""The classes that are taken for each other."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from search.report.confusion import MAX_CLASSES_IN_MATRIX, MAX_PAIRS, confusion, matrix, worst_pairs
from tests.search.report.test_test_examples import predictions


def test_counts_are_the_mean_over_the_runs():
    found = predictions(4)
    each = [confusion_matrix(found.test.targets, run.argmax(1)) for run in found.predicted]
    assert confusion(found) == pytest.approx(np.mean(each, axis=0))


def test_pairs_are_the_largest_errors_first():
    found = predictions(20, examples=400)
    counts = confusion(found)
    np.fill_diagonal(counts, 0)
    pairs = worst_pairs(found)
    assert [pair.count for pair in pairs] == pytest.approx(np.sort(counts, axis=None)[::-1][:MAX_PAIRS])
    for pair in pairs:
        true, answer = (found.test.classes.index(name) for name in (pair.true, pair.answer))
        assert pair.count == pytest.approx(counts[true, answer])
        assert pair.share == pytest.approx(counts[true, answer] / 20)


def test_matrix_has_the_class_with_most_errors_first():
    found = predictions(5)
    figure = matrix(found)
    shares = np.array(figure.data[0].z)
    assert shares.sum(axis=1) == pytest.approx(np.full(5, 100.0))
    assert list(np.diag(shares)) == sorted(np.diag(shares))
    assert set(figure.layout.xaxis.ticktext) == {f"class {n}" for n in range(5)}
    assert figure.layout.xaxis.ticktext == figure.layout.yaxis.ticktext


def test_many_classes_have_pairs_alone():
    found = predictions(MAX_CLASSES_IN_MATRIX + 1)
    assert matrix(found) is None
    assert worst_pairs(found)


def test_right_answers_and_lacking_classes_are_no_pairs():
    found = predictions(3)
    right = tuple(np.eye(3, dtype=np.float32)[found.test.targets] for _ in found.predicted)
    assert worst_pairs(replace(found, predicted=right)) == []
    lacking = replace(found, test=replace(found.test, targets=found.test.targets % 2))
    assert np.isfinite(np.array(matrix(lacking).data[0].z)).all()
    assert all(np.isfinite(pair.share) for pair in worst_pairs(lacking))
