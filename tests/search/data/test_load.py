import pytest
import torch

from search.data.examples import Examples, TaskData
from search.data.load import load_data
from search.errors import TaskError


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


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "a.csv").write_text("text,label\nnew,x\n" + "b,y\nc,x\n" * 5),
        lambda folder: (folder / "test.csv").write_text("text,label\nq,y\n"),
    ],
)
def test_changed_data_have_another_fingerprint(tmp_path, change):
    (tmp_path / "a.csv").write_text("text,label\na,x\n" + "b,y\nc,x\n" * 5)
    (tmp_path / "test.csv").write_text("text,label\nq,x\n")

    def now():
        options = {"text": "text", "test": str(tmp_path / "test.csv")}
        return load_data(str(tmp_path / "a.csv"), options, where="d").fingerprint

    before = now()
    assert now() == before != ""
    change(tmp_path)
    assert now() != before


@pytest.mark.parametrize(
    "name", ["digitz", "no_such_module:f", "search.spec.study_spec:no_such_function", "search.spec.study_spec:NAME"]
)
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
def test_impossible_examples_are_refused(inputs, targets, message):
    part = Examples(torch.zeros(inputs, 1), torch.tensor(targets, dtype=torch.int64))
    with pytest.raises(TaskError, match=message):
        TaskData(pool=part, test=part, classes=("a", "b"))


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (torch.zeros(2, 1).numpy(), torch.zeros(2).long(), "must be torch tensors"),
        ([1, 2], torch.zeros(2).long(), "must be torch tensors"),
        ({"values": torch.zeros(2), "lengths": torch.zeros(3)}, torch.zeros(2).long(), "3 inputs and 2 targets"),
        (torch.zeros(2, 1), torch.zeros(2), r"int64 of shape \(N,\), got float32 of shape \(2,\)"),
        (torch.zeros(2, 1), torch.zeros(2).int(), "got int32"),
        (torch.zeros(2, 1), torch.zeros(2, 1).long(), r"got int64 of shape \(2, 1\)"),
    ],
)
def test_data_of_another_kind_are_refused(inputs, targets, message):
    part = Examples(inputs, targets)
    with pytest.raises(TaskError, match=message):
        TaskData(pool=part, test=part, classes=("a", "b"))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.zeros(2).long(), r"no classes, so its targets must be numbers, float32 .* got int64"),
        (torch.zeros(2, 1, 1), r"got float32 of shape \(2, 1, 1\)"),
        (torch.tensor([[0, 1], [float("nan"), float("inf")]]), r"must be finite; 2 are not, the first at \[1, 0\]"),
    ],
)
def test_impossible_targets_are_refused(targets, message):
    part = Examples(torch.zeros(2, 1), targets)
    with pytest.raises(TaskError, match=message):
        TaskData(pool=part, test=part, classes=())


@pytest.mark.parametrize(("targets", "outputs"), [(torch.zeros(2), 1), (torch.zeros(2, 3), 3)])
def test_numbers_make_a_regression_task(targets, outputs):
    part = Examples(torch.zeros(2, 1), targets)
    data = TaskData(pool=part, test=part.subset(torch.arange(0)), classes=())
    assert (data.kind, data.outputs) == ("regression", outputs)


class Squares:
    """Inputs that are made when they are asked for: each number's square, plus its view."""

    def __init__(self, numbers):
        self.numbers = numbers

    def __len__(self):
        return len(self.numbers)

    def subset(self, indices):
        return Squares(self.numbers[indices])

    def take(self, indices, views):
        return self.numbers[indices] ** 2 + (0 if views is None else views / 10)


def test_inputs_of_every_kind_give_the_same_batches():
    numbers, targets = torch.arange(6.0), torch.arange(6)
    plain = Examples(numbers**2, targets).subset(torch.tensor([4, 2, 0]))
    named = Examples({"a": numbers**2, "b": -numbers}, targets).subset(torch.tensor([4, 2, 0]))
    stored = Examples(Squares(numbers), targets).subset(torch.tensor([4, 2, 0]))
    for indices in ([1, 0], [(1, 0), (0, 0)]):
        expected = plain.__getitems__(indices)
        assert torch.equal(expected[0], torch.tensor([4.0, 16.0]))
        assert torch.equal(named.__getitems__(indices)[0]["a"], expected[0])
        assert torch.equal(stored.__getitems__(indices)[0], expected[0])
    assert stored.__getitems__([(1, 0), (1, 3)])[0].tolist() == pytest.approx([4.0, 4.3])
    assert plain[1] == stored[1] == (torch.tensor(4.0), torch.tensor(2))
    assert named[1][0]["b"] == -2


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("digits", {"test": 0.3}, r"test = 0.3, but these data can't be split otherwise"),
        ("digits", {"part": [0, 0.5, 1]}, r"option part = \[0, 0.5, 1\] must be \[from, to\]"),
        ("digits", {"part": [0.6, 0.5]}, r"option part = \[0.6, 0.5\] has no examples"),
        ("digits", {"part": [0, True]}, r"option part = \[0, True\] must be"),
        ("digits", {"classes": {"a": [0], "b": ["x"]}}, "b = 'x' is no class; allowed: 0, 1, 2"),
        ("digits", {"classes": {"a": [0], "b": [0]}}, "names 0 twice; allowed: each class once"),
        ("digits", {"classes": {"a": [0]}}, "names 1 classes; at least 2"),
        ("digits", {"classes": ["a"]}, "option classes = .* must be { new_name"),
        ("no/such/folder", {}, "no such file or folder; looked in"),
        ("nothing.csv", {}, "no such file or folder; looked in"),
        ("torchvision/CIFAR11", {}, "no such class; .* near it: .*CIFAR10"),
    ],
)
def test_impossible_options_and_names_are_one_line(name, options, message):
    with pytest.raises(TaskError, match=f"^\\[task\\] data = '{name}'.*{message}") as caught:
        load_data(name, options, where="[task] data")
    assert "\n" not in str(caught.value)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "data.pdf").touch()
    with pytest.raises(TaskError, match=r"data.pdf': no such kind of file; allowed: .npz, .csv, .tsv, .ts"):
        load_data(str(tmp_path / "data.pdf"), where="[task] data")
