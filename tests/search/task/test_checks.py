"""Checks of data, network and study file against each other."""

import numpy as np
import pytest
import torch

from search.data.examples import Examples, TaskData
from search.data.split_checks import untested_classes
from search.errors import TaskError
from search.spec.study_spec import StudySpec, find_study_file
from search.task.checks import check_metric
from search.task.task import Task
from tests.search.projects import study_of


@pytest.mark.parametrize(
    ("metric", "targets", "test", "message"),
    [
        ("auroc", [0] * 296 + [1] * 4, None, r"'auroc': class '1' has 4 labels, and each part of a cross-validation"),
        ("average_precision", [0] * 296 + [1] * 4, None, "'average_precision': class '1' has 4 labels"),
        ("auroc", [0, 1] * 150, [0] * 40, "'auroc': the test set needs examples of two classes"),
        ("r2", [0.5] * 300, [0.5] * 40, "'r2': the targets that test do not vary; allowed: loss, mae, rmse"),
    ],
)
def test_metric_that_is_not_defined_in_testing_is_refused(metric, targets, test, message, tmp_path, monkeypatch):
    """Before anything trains, with the class and its count."""
    monkeypatch.chdir(tmp_path)
    arrays = {"x": np.random.default_rng(0).normal(size=(300, 8, 1)), "y": np.array(targets)}
    if test is not None:
        arrays |= {"x_test": np.random.default_rng(1).normal(size=(40, 8, 1)), "y_test": np.array(test)}
    np.savez("data.npz", **arrays)
    model = {"options": {"input_size": 1, "hidden_size": 4}}
    with pytest.raises(TaskError, match=message):
        Task.load(study_of("data.npz", "lstm", task={"sizes": [30], "metric": metric}, model=model))


def test_classes_that_nothing_tests_are_told():
    """Of a test set; in cross-validation every class is tested."""
    pool = Examples(torch.zeros(6, 2), torch.arange(6) % 3)
    data = TaskData(pool=pool, test=pool.subset(torch.tensor([0, 1])), classes=("a", "b", "c"))
    assert untested_classes(data) == ["the test set has no example of 1 of 3 classes (c): none is scored."]
    crossed = TaskData(pool=pool, test=pool.subset(torch.arange(0)), classes=("a", "b", "c"), cross_validated=True)
    assert untested_classes(crossed) == []


def test_metrics_of_classes_are_refused_for_a_regression():
    """With those that are allowed."""
    spec = StudySpec.from_file(find_study_file("digits"))
    numbers = Examples(torch.randn(800, 1, 8, 8), torch.randn(800))
    data = TaskData(pool=numbers, test=numbers, classes=())
    with pytest.raises(TaskError) as caught:
        check_metric(spec.changed(task={"metric": "auroc"}), data, Task.inspect(spec).parts)
    assert str(caught.value) == "[task] metric = 'auroc': this is a regression task; allowed: loss, mae, rmse, r2."
