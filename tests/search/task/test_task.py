import numpy as np
import pytest
import torch
from PIL import Image

from search.data.load import load_data
from search.errors import SpecError, TaskError
from search.spec.study_spec import StudySpec, find_study_file
from search.task.task import Task
from strategies import FreezingStrategy
from tests.search.projects import study_of


@pytest.fixture(scope="module")
def spec():
    return StudySpec.from_file(find_study_file("digits"))


@pytest.fixture(scope="module")
def task(spec):
    task = Task.load(spec)
    backbone, _, _ = task.build(FreezingStrategy.from_scratch(), repeat=9)
    return task.with_weights(backbone.state_dict())


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_trials_of_a_repeat_start_from_the_same_weights(task):
    probing, scratch = FreezingStrategy.linear_probing(num_groups=4), FreezingStrategy.from_scratch()
    (backbone, head, _), (other, other_head, _) = task.build(probing, repeat=1), task.build(scratch, repeat=1)
    assert same(head, other_head)
    assert not same(backbone, other), "from scratch does not start from the weights"
    assert same(backbone, task.build(probing, repeat=2)[0])
    assert not same(head, task.build(probing, repeat=2)[1])
    assert not same(other, task.build(scratch, repeat=2)[0])


def test_building_parts_leaves_the_global_random_stream_alone(task):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    task.build(FreezingStrategy.from_scratch(), repeat=1)
    assert torch.equal(torch.rand(1), expected)


def test_shuffled_labels_keep_the_balance_and_nothing_else(spec):
    plain, shuffled = Task.load(spec), Task.load(spec.changed(task={"shuffle_labels": True}))
    for one, other in ((plain.data.pool, shuffled.data.pool), (plain.data.test, shuffled.data.test)):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets.bincount(), other.targets.bincount())
        assert (one.targets == other.targets).float().mean() < 0.2


def test_each_data_set_is_loaded_once(spec, monkeypatch):
    names = []

    def load(name, *arguments, **options):
        names.append(name)
        return load_data(name, *arguments, **options)

    monkeypatch.setattr("search.task.task.load_data", load)
    assert Task.load(spec).source is not None
    assert names == ["digits", "digits-0-4"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"task": {"data": "nope"}}, TaskError, r"\[task\] data = 'nope': no such data; allowed: digits"),
        ({"task": {"data": "digits-0-4"}}, TaskError, "has no test set"),
        (
            {"task": {"metric": "rmse"}},
            TaskError,
            r"\[task\] metric = 'rmse': this is a classification task; allowed: accuracy, balanced_accuracy, f1, ",
        ),
        ({"task": {"sizes": [900]}}, TaskError, "sizes: 900 is not possible"),
        ({"model": {"backbone": "nope"}}, TaskError, r"\[model\] backbone = 'nope' is not known; allowed: small_cnn"),
        ({"space": {"parameters": ["all", "norm"]}}, TaskError, "parameters = 'norm' .* leaves the backbone nothing"),
        ({"model": {"backbone": "torch.nn:Flatten"}}, TaskError, "no parameters, so there is nothing to freeze"),
        (
            {"model": {"backbone": "search.spec.study_spec:ends"}},
            TaskError,
            r"'search.spec.study_spec:ends': it fails: TypeError",
        ),
        ({"model": {"backbone": "builtins:int"}}, TaskError, r"returned a int; it must return a torch module"),
        ({"source": {"data": "nope"}}, TaskError, r"\[source\] data = 'nope': no such data"),
        ({"space": {"freeze_depth": [0, 5]}}, SpecError, r"freeze_depth = 5 is beyond .* allowed: 0 to 4"),
    ],
)
def test_impossible_tasks_are_refused(spec, changes, error, message):
    with pytest.raises(error, match=message):
        Task.load(spec.changed(**changes))


def test_an_accelerator_that_is_not_there_is_refused(spec, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(TaskError, match=r"\[train\] accelerator = 'gpu': there is none on this machine"):
        Task.load(spec.changed(train={"accelerator": "gpu"}))


@pytest.mark.parametrize("content", [None, b"not a checkpoint", {"wrong": torch.zeros(2)}])
def test_weights_that_do_not_fit_are_refused(spec, tmp_path, content):
    file = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    table = spec.model_dump(mode="json", exclude_none=True) | {"model": {"backbone": "small_cnn", "weights": str(file)}}
    del table["source"]
    with pytest.raises(TaskError, match=r"\[model\] weights = .*weights.pt") as caught:
        Task.load(StudySpec.from_dict(table, where="test"))
    assert "\n" not in str(caught.value)


def test_pretrained_strategies_start_from_a_files_weights(spec, tmp_path, task):
    torch.save(task.weights, tmp_path / "weights.pt")
    model = {"backbone": "small_cnn", "weights": str(tmp_path / "weights.pt")}
    table = spec.model_dump(mode="json", exclude_none=True) | {"model": model}
    del table["source"]
    loaded = Task.load(StudySpec.from_dict(table, where="test"))
    probing = FreezingStrategy.linear_probing(num_groups=4)
    assert same(loaded.build(probing, repeat=1)[0], task.build(probing, repeat=1)[0])


OWN = """
import numpy as np, torch
from lightning.pytorch import LightningModule
from torch import nn

def body():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8))

def flat(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(width, 4))

ONE, HEAD = body(), nn.Linear(8, 10)

def shared():
    return ONE

def shared_head():
    return body(), HEAD

def fixed():
    made = body()
    nn.init.constant_(made[1].weight, 0.1)
    return made

def numpy_head():
    head = nn.Linear(8, 10)
    head.weight.data = torch.from_numpy(np.random.randn(10, 8)).float()
    return body(), head

class Whole(LightningModule):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = body(), nn.Linear(8, 10)

class Extra(Whole):
    def __init__(self):
        super().__init__()
        self.projector = nn.Linear(8, 8)

class Teacher(Whole):
    def __init__(self):
        super().__init__()
        self.teacher = body().requires_grad_(False)

class InPlace(Whole):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(*body(), nn.ReLU(), nn.Linear(8, 10))
        self.head = self.backbone[3]

    def forward(self, inputs):
        return self.backbone(inputs)

def frozen():
    return body().requires_grad_(False)

def tied():
    made, head = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Linear(10, 10)), nn.Linear(10, 10)
    head.weight = made[2].weight
    return made, head

class Tuple(Whole):
    def forward(self, inputs):
        return self.head(self.backbone(inputs)), None
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a function: the spec of the digits with a network of the user's own."""
    (tmp_path / "own_networks.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)

    return lambda name, **model: study_of("digits", f"own_networks:{name}", task={"sizes": [50]}, model=model)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shared", "returns the same module twice; it must build a new one at every call"),
        ("shared_head", "returns the same module twice"),
        ("Extra", "projector.weight, projector.bias: neither the backbone's nor the head's"),
        ("frozen", "leaves the backbone nothing to train; allowed: parameters = 'all', which also trains"),
        ("tied", r"shared between backbone and head: 2\.weight\. Untie the head by a copy"),
        ("Tuple", r"its forward must return outputs \(N, 10\), got tuple"),
    ],
)
def test_unusable_networks_of_the_user_are_refused(own, name, message):
    with pytest.raises(TaskError, match=message):
        Task.load(own(name))


def test_from_scratch_is_random_or_refused(own, tmp_path):
    Task.load(own("fixed"))  # its own weights, and no from-scratch arm
    torch.save(Task.load(own("fixed")).parts.backbone.state_dict(), "w.pt")
    Task.load(own("body", weights="w.pt"))
    with pytest.raises(TaskError, match="makes the same weights at every call, so none would start from scratch"):
        Task.load(own("fixed", weights="w.pt"))


def test_a_module_may_have_frozen_extras_and_no_forward(own):
    task = Task.load(own("Teacher"))
    backbone, head, module = task.build(FreezingStrategy.full_fine_tuning(), repeat=0)
    inputs = task.data.test.inputs[:3]
    assert torch.equal(module(inputs), head(backbone(inputs)))


def test_a_head_inside_the_backbone_is_none_of_its_groups(own):
    task = Task.load(own("InPlace"))
    assert [group.name for group in task.groups] == ["1"]
    assert task.trainable_parameters(FreezingStrategy.linear_probing(num_groups=1)) == 90


def test_a_backbone_frozen_by_hand_trains_with_all(own):
    every = own("frozen").changed(space={"parameters": "all"})
    params = {"freeze_depth": 0, "head_lr": 0.01}
    assert Task.load(every).trainable_parameters(every.strategy(params, num_groups=1)) == 520 + 90
    probing = own("frozen").changed(space={"freeze_depth": 1})
    assert Task.load(probing).trainable_parameters(probing.strategy(params, num_groups=1)) == 90


def test_numpys_random_numbers_are_the_repeats_too(own):
    task = Task.load(own("numpy_head"))
    strategy = FreezingStrategy.full_fine_tuning()
    assert same(task.build(strategy, repeat=1)[1], task.build(strategy, repeat=1)[1])
    assert not same(task.build(strategy, repeat=1)[1], task.build(strategy, repeat=2)[1])


@pytest.mark.parametrize(
    ("model", "train", "message"),
    [
        ({"image_size": 8}, {}, r"\[model\] image_size = 8: \[task\] data = 'digits' is no image data"),
        ({"mean": [0.5]}, {}, r"\[model\] mean = \[0.5\]: \[task\] data"),
        ({}, {"augment": ["flip"]}, r"\[train\] augment = \['flip'\]: \[task\] data"),
    ],
)
def test_image_options_are_refused_for_other_data(spec, model, train, message):
    with pytest.raises(TaskError, match=message):
        Task.inspect(spec.changed(model=model, train=train))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ({}, (3, 12, 12)),
        ({"image_size": 8}, (3, 8, 8)),
        ({"mean": [0.5], "std": [0.5]}, (1, 12, 12)),
    ],
)
def test_a_network_of_your_own_sees_all_images_alike(own, tmp_path, model, shape):
    rng = np.random.default_rng(0)
    for part, side, mode in (("train", 12, "RGB"), ("test", 20, "L")):
        for label in "ab":
            (tmp_path / "images" / part / label).mkdir(parents=True)
            for number in range(6):
                pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
                Image.fromarray(pixels).convert(mode).save(tmp_path / "images" / part / label / f"{number}.png")
    spec = own("flat", options={"width": int(np.prod(shape))}, **model)
    task = Task.load(spec.changed(task={"data": "images", "sizes": [8]}))
    for examples in (task.data.pool, task.data.test):
        assert examples.__getitems__([0, 1])[0].shape == (2, *shape)
