"""A user's own module is judged by what its own steps log, or refused."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from search.errors import TaskError
from search.task.task import Task
from search.training.fit import fit
from search.training.own_steps import check_steps, own_scores
from strategies import FreezingStrategy
from tests.search.projects import PROJECT, study_of

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = '''
from torch.nn.functional import binary_cross_entropy_with_logits


class Tags(Net):
    """Several labels an example, and binary cross entropy."""

    outputs = 3

    def loss(self, batch):
        return binary_cross_entropy_with_logits(self(batch[0]), batch[1])


class Tested(Tags):
    def test_step(self, batch, index):
        self.log("test_loss", 2 * self.loss(batch))


class Ends(Net):
    def validation_step(self, batch, index):
        return self.loss(batch)

    def on_validation_epoch_end(self):
        self.log("val_f1", 0.75)


class Percent(Net):
    def validation_step(self, batch, index):
        self.log("val_accuracy", 60.0)


class Other(Tags):
    def validation_step(self, batch, index):
        self.log("val_right", 0.5)


class OnlyTested(Net):
    def validation_step(self, batch, index):
        pass

    def test_step(self, batch, index):
        self.log("test_loss", self.loss(batch))


class Fails(Tags):
    def test_step(self, batch, index):
        raise KeyError("weights")


class Noisy(Tags):
    def test_step(self, batch, index):
        self.log("test_loss", self.loss(batch) - torch.rand(()) - 9)
'''
STRATEGY = FreezingStrategy(freeze_depth=0, head_lr=0.01, backbone_lr_ratio=1.0)


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "own_steps_project.py").write_text(PROJECT + STEPS)
    monkeypatch.chdir(tmp_path)

    def load(module, *, tags=True, **table):
        names = "own_steps_project:Data", f"own_steps_project:{module}"
        tables = {"train": {"epochs": 3, "steps_per_epoch": 4}, "space": {"pretrained": True}}
        return Task.load(study_of(*names, task={"options": {"tags": tags}, **table}, **tables))

    return load


def outputs_of(task, result):
    test = task.take(task.split(repeat=1, size=100).test)
    result.model.eval()
    with torch.no_grad():
        return result.model(test.inputs), test.targets


@pytest.mark.parametrize(("module", "factor"), [("Tags", 1), ("Tested", 2)])
def test_fit_judges_several_labels_by_the_modules_own_loss(project, module, factor):
    """Its test step comes before its validation step; mean squared error judges nothing."""
    task = project(module)
    check_steps(task)
    result = fit(task, STRATEGY, size=100, repeat=1, test=True)
    own = binary_cross_entropy_with_logits(*outputs_of(task, result)).item()
    assert (task.metric.name, task.metric.higher_is_better, task.facts["own_metric"]) == ("loss", False, True)
    assert result.value == result.scores["test_loss"] == pytest.approx(factor * own, rel=1e-5)
    assert result.scores.keys() == {"test_loss", "test_examples"}
    assert result.predictions is None, "squared errors of logits are no shares of that loss"


def test_fit_keeps_example_scores_that_give_the_logged_one(project):
    """Cross entropy of classes is one of the metrics here."""
    result = fit(task := project("Net", tags=False), STRATEGY, size=100, repeat=1, test=True)
    own = cross_entropy(*outputs_of(task, result)).item()
    assert result.value == pytest.approx(own, rel=1e-5)
    assert result.predictions["example_scores"].mean() == pytest.approx(own, rel=1e-5)
    assert 0 < result.scores["test_se"] < own


def test_fit_takes_a_metric_that_the_user_names(project):
    """Accuracy is computed from logits, while exploring too, if no step logs it."""
    task = project("Net", tags=False, metric="accuracy")
    check_steps(task)
    explored = fit(task, STRATEGY, size=100, repeat=0)
    judged = fit(task, STRATEGY, size=100, repeat=1, test=True)
    outputs, targets = outputs_of(task, judged)
    assert judged.value == pytest.approx((outputs.argmax(1) == targets).float().mean().item())
    assert judged.predictions["example_scores"].mean() == pytest.approx(judged.value)
    validated = task.take(task.split(repeat=0, size=100).validate)
    with torch.no_grad():
        right = (explored.model.eval()(validated.inputs).argmax(1) == validated.targets).float().mean().item()
    assert explored.value == pytest.approx(right)


def test_fit_takes_what_is_logged_at_the_end_of_an_epoch(project):
    """A module's own F1 counts, whatever the kind of task."""
    task = project("Ends", tags=False, metric="f1")
    check_steps(task)
    result = fit(task, STRATEGY, size=100, repeat=1, test=True)
    assert (result.value, result.predictions) == (0.75, None)


def test_own_scores_repeat_and_leave_random_numbers_alone(project):
    """A loss may be below 0; what a step draws is the repeat's."""
    task = project("Noisy")
    check_steps(task)
    model = task.build(STRATEGY, repeat=0)[2]
    state = torch.get_rng_state()
    (first, _), (second, _) = (own_scores(model, task.data.test, task, repeat=1) for _ in range(2))
    assert first == second
    assert first["test_loss"] < -8
    assert torch.equal(state, torch.get_rng_state())


def test_fit_raises_if_the_metric_is_not_logged(project):
    """Also where nobody has checked the steps before."""
    with pytest.raises(ValueError, match="'val_loss' is not logged; logged: val_right"):
        fit(project("Other"), STRATEGY, size=100, repeat=0)


@pytest.mark.parametrize(
    ("module", "table", "message"),
    [
        (
            "Other",
            {},
            r"log no test_loss and no val_loss \(logged: val_right\).*self.log\('val_loss', ...\).*metric = ",
        ),
        ("Tags", {"metric": "f1"}, r"log no test_f1 and no val_f1 \(logged: val_loss\)"),
        ("OnlyTested", {"tags": False}, r"log no val_loss \(logged: test_loss\)"),
        ("Fails", {}, "its test_step fails: KeyError: 'weights'"),
        ("Percent", {"tags": False, "metric": "accuracy"}, "logs val_accuracy = 60; allowed: 0 to 1"),
    ],
)
def test_check_steps_refuses_before_training(project, module, table, message):
    """Of what judges, nothing is guessed: the line names what is logged and what to type."""
    with pytest.raises(TaskError, match=message) as raised:
        check_steps(project(module, **table))
    assert "\n" not in str(raised.value)
    assert "own_steps_project:" in str(raised.value)
