import pytest
import torch
from torch import nn

from search.data.batches import EvalLoader
from search.data.examples import Examples
from search.spec.tables import Train
from search.training.module import TaskModule
from search.training.scoring import evaluate
from search.training.trainer import lean_trainer
from search.verdict.metric import METRICS


def logged(targets, outputs, metric):
    """Return the validation scores of a linear module by name, and its outputs."""
    torch.manual_seed(0)
    inputs, head = torch.randn(len(targets), 4), nn.Linear(4, outputs)
    model = TaskModule(nn.Identity(), head, optimizer=torch.optim.SGD(head.parameters(), lr=0.1), metric=metric)
    trainer = lean_trainer(Train(accelerator="cpu"), epochs=1)
    trainer.validate(model, EvalLoader(Examples(inputs, targets), batch_size=32), verbose=False)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}, head(inputs).detach()


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "f1", "auroc", "average_precision", "loss"])
def test_validation_scores_are_of_the_whole_set(name):
    targets = torch.arange(90) // 30  # a batch has one class, or two
    found, logits = logged(targets, 3, name)
    whole = evaluate(logits, targets, {name, "accuracy", "loss"})
    assert found == pytest.approx({METRICS[one].validated: value for one, value in whole.items()}, abs=1e-6)


@pytest.mark.parametrize("name", ["r2", "rmse"])
def test_validation_scores_of_a_regression_are_of_the_whole_set(name):
    targets = torch.arange(90.0) / 10
    found, outputs = logged(targets, 1, name)
    whole = evaluate(outputs, targets, [name, "loss"])
    assert found == pytest.approx({METRICS[one].validated: value for one, value in whole.items()}, rel=1e-5)
