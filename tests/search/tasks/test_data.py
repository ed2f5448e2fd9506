import pytest
import torch

from search.errors import TaskError
from search.tasks.data import Examples, TaskData, load_data


def images(examples):
    return {tuple(image.flatten().tolist()) for image in examples.inputs}


def test_the_source_does_not_leak_into_the_target():
    target, source = load_data("digits", where="test"), load_data("digits-0-4", where="test")
    assert [len(part) for part in (source.pool, target.pool, target.test)] == [450, 847, 500]
    parts = [images(source.pool), images(target.pool), images(target.test)]
    assert len(parts[0] | parts[1] | parts[2]) == sum(map(len, parts)), "the three parts share an image"
    assert source.pool.targets.unique().tolist() == [0, 1, 2, 3, 4]


def test_pool_and_test_set_have_the_same_balance():
    data = load_data("digits", where="test")
    shares = [part.targets.bincount() / len(part) for part in (data.pool, data.test)]
    assert (shares[0] - shares[1]).abs().max() < 0.005


def test_data_are_the_same_every_time():
    first, second = (load_data("digits", where="test").pool.inputs for _ in range(2))
    assert torch.equal(first, second)


def test_your_own_data_come_from_a_function(tmp_path, monkeypatch):
    (tmp_path / "my_data.py").write_text(
        "import torch\nfrom search.tasks.data import Examples, TaskData\n"
        "def build():\n    part = Examples(torch.randn(6, 3), torch.arange(6) % 2)\n"
        "    return TaskData(pool=part, test=part, classes=('a', 'b'))\n"
        "def wrong():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    assert len(load_data("my_data:build", where="test").pool) == 6
    with pytest.raises(TaskError, match=r"\[task\] data = 'my_data:wrong' returned a int; it must return a TaskData"):
        load_data("my_data:wrong", where="[task] data")


@pytest.mark.parametrize("name", ["digitz", "no_such_module:f", "search.spec:no_such_function", "search.spec:NAME"])
def test_unknown_data_are_named(name):
    with pytest.raises(TaskError, match=f"^\\[task\\] data = '{name}'"):
        load_data(name, where="[task] data")


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (3, [0, 1], "3 inputs and 2 targets"),
        (2, [0, 2], "targets from 0 to 2; allowed: 0 to 1"),
        (0, [], "no examples"),
    ],
)
def test_data_that_can_not_be_are_refused(inputs, targets, message):
    part = Examples(torch.zeros(inputs, 1), torch.tensor(targets, dtype=torch.int64))
    with pytest.raises(TaskError, match=message):
        TaskData(pool=part, test=part, classes=("a", "b"))


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (torch.zeros(2, 1).numpy(), torch.zeros(2).long(), "must be torch tensors"),
        (torch.zeros(2, 1), torch.zeros(2), r"int64 of shape \(N,\), got float32 of shape \(2,\)"),
        (torch.zeros(2, 1), torch.zeros(2).int(), "got int32"),
        (torch.zeros(2, 1), torch.zeros(2, 1).long(), r"got int64 of shape \(2, 1\)"),
    ],
)
def test_data_of_another_kind_are_refused(inputs, targets, message):
    part = Examples(inputs, targets)
    with pytest.raises(TaskError, match=message):
        TaskData(pool=part, test=part, classes=("a", "b"))
