import math

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)

from search.data.examples import Examples
from search.training.scoring import (
    MAX_EXAMPLES_SHOWN,
    MAX_SIDE_PIXELS,
    describe_test,
    evaluate,
    score,
    trivial_score,
    validation_scores,
)
from search.verdict.metric import METRICS, fitting


def logits_and_targets(classes, *, examples=200):
    generator = torch.Generator().manual_seed(classes)
    targets = torch.arange(examples) % classes
    return torch.randn(examples, classes, generator=generator) + torch.eye(classes)[targets], targets


def outputs_and_targets(columns, *, examples=100):
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(examples, columns, generator=generator)
    return targets + 0.5 * torch.randn(examples, columns, generator=generator), targets


def names(kind):
    return [metric.name for metric in fitting(kind)]


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_metrics_of_a_classifier_match_sklearn(classes):
    logits, targets = logits_and_targets(classes)
    found = evaluate(logits, targets, names("classification"))
    chosen, shares = logits.argmax(1), logits.double().softmax(1)
    each = [(targets == label, shares[:, label]) for label in range(classes)]
    expected = {
        "accuracy": accuracy_score(targets, chosen),
        "balanced_accuracy": balanced_accuracy_score(targets, chosen),
        "f1": f1_score(targets, chosen, average="macro"),
        "auroc": np.mean([roc_auc_score(*one) for one in each]),
        "average_precision": np.mean([average_precision_score(*one) for one in each]),
        "loss": log_loss(targets, shares),
    }
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("columns", [1, 5])
@pytest.mark.parametrize("unit", [1.0, 1e-4])
def test_metrics_of_a_regressor_match_sklearn(columns, unit):
    outputs, targets = (unit * one for one in outputs_and_targets(columns))
    expected = {
        "loss": mean_squared_error(targets, outputs),
        "mae": mean_absolute_error(targets, outputs),
        "rmse": root_mean_squared_error(targets.flatten(), outputs.flatten()),
        "r2": r2_score(targets, outputs),
    }
    assert evaluate(outputs, targets, names("regression")) == pytest.approx(expected, rel=1e-5)


def test_score_has_all_metrics_and_probabilities():
    logits, targets = logits_and_targets(3)
    scores = score(logits, targets, metric=METRICS["accuracy"])
    assert scores.values.keys() == {f"test_{name}" for name in (*names("classification"), "examples", "se", "trivial")}
    assert scores.values["test_examples"] == 200
    assert scores.predicted.dtype == torch.float16
    assert scores.predicted.sum(1).tolist() == pytest.approx([1.0] * 200, abs=1e-2)
    outputs, targets = outputs_and_targets(5)
    scores = score(outputs, targets, metric=METRICS["rmse"])
    assert scores.values.keys() == {f"test_{name}" for name in (*names("regression"), "examples", "se", "trivial")}
    assert scores.predicted.shape == (100, 5)


def test_validation_scores_are_named_as_attributes():
    outputs, targets = outputs_and_targets(2)
    found = validation_scores(outputs, targets)
    assert found == {f"val_{name}": value for name, value in evaluate(outputs, targets, names("regression")).items()}


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_example_scores_have_the_metric_as_their_mean(metric):
    outputs, targets = (logits_and_targets if "classification" in metric.kinds else outputs_and_targets)(3)
    scores = score(outputs, targets, metric=metric)
    values = scores.example_scores.double()
    assert values.shape == (len(targets),)
    assert values.mean().item() == pytest.approx(scores.values[metric.attribute], abs=1e-6)
    assert scores.values["test_se"] == pytest.approx(values.std().item() / math.sqrt(len(targets)))


def test_example_scores_of_means_are_the_examples_own():
    logits, targets = logits_and_targets(3)
    correct = score(logits, targets, metric=METRICS["accuracy"]).example_scores
    assert correct.tolist() == (logits.argmax(1) == targets).tolist()
    outputs, truth = outputs_and_targets(5)
    squared = score(outputs, truth, metric=METRICS["loss"]).example_scores
    assert squared.tolist() == pytest.approx((outputs - truth).square().mean(1).tolist(), rel=1e-4)


def test_curves_are_over_classes_that_have_examples():
    logits, targets = logits_and_targets(3)
    some = targets != 2
    each = [roc_auc_score(targets[some] == label, logits[some].softmax(1)[:, label]) for label in (0, 1)]
    assert evaluate(logits[some], targets[some], ["auroc"])["auroc"] == pytest.approx(np.mean(each), abs=1e-6)


def test_score_omits_what_is_not_defined():
    logits, targets = logits_and_targets(3)
    one = score(logits[targets == 0], targets[targets == 0], metric=METRICS["auroc"])
    assert "test_f1" in one.values
    assert not {"test_auroc", "test_average_precision", "test_se", "test_trivial"} & one.values.keys()


def test_trivial_scores_are_those_of_the_best_constant():
    """Of 10 examples of three classes, 5, 3 and 2; and of numbers whose mean is 3, whose median is 1."""
    targets = torch.tensor([0] * 3 + [1] * 5 + [2] * 2)
    frequencies = np.array([0.3, 0.5, 0.2])
    for name, expected in {
        "accuracy": 0.5, "balanced_accuracy": 1 / 3, "f1": (2 * 0.5 / 1.5) / 3, "auroc": 0.5,
        "average_precision": 1 / 3, "loss": -(frequencies * np.log(frequencies)).sum(),
    }.items():  # fmt: skip
        assert trivial_score(targets, classes=4, metric=METRICS[name]) == pytest.approx(expected), name
    numbers = torch.tensor([0.0, 1.0, 1.0, 2.0, 11.0])
    for name, expected in {"mae": 12 / 5, "rmse": math.sqrt(82 / 5), "loss": 82 / 5, "r2": 0.0}.items():
        assert trivial_score(numbers, classes=1, metric=METRICS[name]) == pytest.approx(expected), name


@pytest.mark.parametrize("name", ["mae", "rmse", "loss", "r2"])
def test_trivial_score_is_that_of_several_outputs(name):
    numbers = outputs_and_targets(3)[1]
    best = trivial_score(numbers, classes=3, metric=METRICS[name])
    for constant in (numbers[0], numbers.mean(0) + 0.1, torch.zeros(3)):
        other = evaluate(constant.repeat(len(numbers), 1), numbers, [name])[name]
        assert METRICS[name].sign * (best - other) >= 0


@pytest.mark.parametrize("name", ["accuracy", "f1", "loss"])
def test_diverged_models_have_no_score(name):
    logits, targets = logits_and_targets(3)
    logits[7] = torch.nan
    assert math.isnan(evaluate(logits, targets, [name])[name])
    scores = score(logits, targets, metric=METRICS[name])
    assert scores.values == {"test_examples": 200}
    assert scores.example_scores.isnan().all()


def test_score_takes_half_precision_outputs():
    logits, targets = logits_and_targets(3)
    half, whole = (evaluate(one, targets, ["loss"])["loss"] for one in (logits.bfloat16(), logits))
    assert half == pytest.approx(whole, rel=1e-2)


def test_score_takes_one_output_as_a_column_or_flat():
    targets = torch.arange(10.0)
    flat, column = (score(one, targets, metric=METRICS["rmse"]) for one in (targets + 1, (targets + 1)[:, None]))
    assert flat.values == column.values
    assert flat.values["test_loss"] == 1.0


def test_r2_is_over_outputs_that_vary():
    targets = torch.stack([torch.ones(10), torch.arange(10.0)], dim=1)
    assert evaluate(targets + 0.1, targets, ["r2"])["r2"] == pytest.approx(
        r2_score(targets[:, 1:], targets[:, 1:] + 0.1)
    )
    assert math.isnan(evaluate(targets[:, :1], targets[:, :1], ["r2"])["r2"])


def test_score_refuses_outputs_of_another_shape():
    with pytest.raises(ValueError, match=r"Outputs of shape \(10, 3\) can't be scored on targets \(10, 2\)"):
        score(torch.zeros(10, 3), torch.zeros(10, 2), metric=METRICS["loss"])


class PreparedImages:
    """Image data: pixels on demand."""

    def __init__(self, pixels):
        self.pixels = pixels

    def pixels_of(self, indices):
        return self.pixels[indices]


def test_describe_test_shows_the_same_examples_of_every_class():
    targets = torch.arange(300) % 10
    pixels = torch.randint(0, 256, (300, 3, 32, 32), dtype=torch.uint8)
    kept, again = (describe_test(Examples(PreparedImages(pixels), targets), list("abcdefghij")) for _ in range(2))
    assert kept["shown"].tolist() == again["shown"].tolist()
    assert len(set(kept["shown"].tolist())) == MAX_EXAMPLES_SHOWN
    assert sorted(np.bincount(targets[kept["shown"]])) == [2] * 6 + [3] * 4
    assert (kept["thumbnails"] == pixels[kept["shown"]].permute(0, 2, 3, 1).numpy()).all()
    assert kept["classes"].tolist() == list("abcdefghij")


def test_thumbnails_are_small_and_keep_their_shape():
    pixels = torch.zeros(5, 1, 300, 150, dtype=torch.uint8)
    pixels[:, :, :150] = 200
    thumbnails = describe_test(Examples(PreparedImages(pixels), torch.zeros(5, dtype=torch.int64)), ["one"])[
        "thumbnails"
    ]
    assert thumbnails.shape == (5, MAX_SIDE_PIXELS, MAX_SIDE_PIXELS // 2, 3)
    assert thumbnails.dtype == np.uint8
    assert (thumbnails[:, 0] == 200).all()
    assert (thumbnails[:, -1] == 0).all()


def test_thumbnails_of_tensors_span_their_own_range():
    inputs = torch.linspace(-1, 1, 2 * 64).reshape(2, 1, 8, 8)
    thumbnails = describe_test(Examples(inputs, torch.tensor([0, 1])), ["a", "b"])["thumbnails"]
    assert (thumbnails.min(), thumbnails.max()) == (0, 255)


@pytest.mark.parametrize("inputs", [torch.zeros(4, 16), torch.zeros(4, 12, 30), {"ids": torch.zeros(4, 7)}, object()])
def test_describe_test_shows_no_other_inputs_than_images(inputs):
    assert set(describe_test(Examples(inputs, torch.tensor([0, 1, 0, 1])), ["a", "b"])) == {"targets", "classes"}


def test_describe_test_keeps_a_regressions_targets():
    kept = describe_test(Examples(torch.zeros(4, 3, 8, 8), torch.arange(4.0)), ())
    assert kept["targets"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert set(kept) == {"targets", "classes"}
