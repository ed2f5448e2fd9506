import math

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score, roc_auc_score

from search.training.scoring import MAX_EXAMPLES_SHOWN, MAX_SIDE_PIXELS, describe_test, score


def logits_and_targets(classes, *, examples=200):
    generator = torch.Generator().manual_seed(classes)
    targets = torch.arange(examples) % classes
    return torch.randn(examples, classes, generator=generator) + torch.eye(classes)[targets], targets


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_score_of_a_classifier_matches_sklearn(classes):
    logits, targets = logits_and_targets(classes)
    scores = score(logits, targets)
    assert scores.example_scores.tolist() == (logits.argmax(1) == targets).tolist()
    assert scores.values["test_accuracy"] == pytest.approx(scores.example_scores.double().mean().item())
    assert scores.values["test_examples"] == 200
    each = [roc_auc_score(targets == label, logits.softmax(1)[:, label]) for label in range(classes)]
    assert scores.values["test_auroc"] == pytest.approx(np.mean(each), abs=1e-6)
    assert scores.predicted.dtype == torch.float16
    assert scores.predicted.sum(1).tolist() == pytest.approx([1.0] * 200, abs=1e-2)


def test_score_omits_an_undefined_auroc():
    logits, targets = logits_and_targets(3)
    assert "test_auroc" not in score(logits[targets != 2], targets[targets != 2]).values
    assert "test_auroc" not in score(torch.full_like(logits, torch.nan), targets).values


def test_score_takes_half_precision_outputs():
    logits, targets = logits_and_targets(3)
    half = score(logits.bfloat16(), targets)
    assert half.values["test_loss"] == pytest.approx(score(logits, targets).values["test_loss"], rel=1e-2)


@pytest.mark.parametrize("columns", [1, 5])
def test_score_of_a_regressor_matches_sklearn(columns):
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(100, columns, generator=generator)
    outputs = targets + 0.5 * torch.randn(100, columns, generator=generator)
    scores = score(outputs, targets)
    values = scores.values
    assert values["test_mse"] == values["test_loss"] == pytest.approx(mean_squared_error(targets, outputs), rel=1e-5)
    assert values["test_mae"] == pytest.approx(mean_absolute_error(targets, outputs), rel=1e-5)
    assert values["test_r2"] == pytest.approx(r2_score(targets, outputs), rel=1e-5)
    assert scores.example_scores.tolist() == pytest.approx((outputs - targets).square().mean(1).tolist(), rel=1e-4)
    assert values["test_se"] == pytest.approx(scores.example_scores.std().item() / math.sqrt(100))
    assert scores.predicted.shape == (100, columns)


def test_score_takes_one_output_as_a_column_or_flat():
    targets = torch.arange(10.0)
    flat, column = score(targets + 1, targets), score((targets + 1)[:, None], targets)
    assert flat.values == column.values
    assert flat.values["test_mse"] == 1.0


def test_score_omits_r2_for_constant_targets():
    targets = torch.stack([torch.ones(10), torch.arange(10.0)], dim=1)
    assert score(targets + 0.1, targets).values["test_r2"] == pytest.approx(
        r2_score(targets[:, 1:], targets[:, 1:] + 0.1)
    )
    assert "test_r2" not in score(targets[:, :1], targets[:, :1]).values


def test_score_refuses_outputs_of_another_shape():
    with pytest.raises(ValueError, match=r"Outputs of shape \(10, 3\) can't be scored on targets \(10, 2\)"):
        score(torch.zeros(10, 3), torch.zeros(10, 2))


class PreparedImages:
    """Image data: pixels on demand."""

    def __init__(self, pixels):
        self.pixels = pixels

    def pixels_of(self, indices):
        return self.pixels[indices]


def test_describe_test_shows_the_same_examples_of_every_class():
    targets = torch.arange(300) % 10
    pixels = torch.randint(0, 256, (300, 3, 32, 32), dtype=torch.uint8)
    kept, again = (describe_test(PreparedImages(pixels), targets, list("abcdefghij")) for _ in range(2))
    assert kept["shown"].tolist() == again["shown"].tolist()
    assert len(set(kept["shown"].tolist())) == MAX_EXAMPLES_SHOWN
    assert sorted(np.bincount(targets[kept["shown"]])) == [2] * 6 + [3] * 4
    assert (kept["thumbnails"] == pixels[kept["shown"]].permute(0, 2, 3, 1).numpy()).all()
    assert kept["classes"].tolist() == list("abcdefghij")


def test_thumbnails_are_small_and_keep_their_shape():
    pixels = torch.zeros(5, 1, 300, 150, dtype=torch.uint8)
    pixels[:, :, :150] = 200
    thumbnails = describe_test(PreparedImages(pixels), torch.zeros(5, dtype=torch.int64), ["one"])["thumbnails"]
    assert thumbnails.shape == (5, MAX_SIDE_PIXELS, MAX_SIDE_PIXELS // 2, 3)
    assert thumbnails.dtype == np.uint8
    assert (thumbnails[:, 0] == 200).all()
    assert (thumbnails[:, -1] == 0).all()


def test_thumbnails_of_tensors_span_their_own_range():
    inputs = torch.linspace(-1, 1, 2 * 64).reshape(2, 1, 8, 8)
    thumbnails = describe_test(inputs, torch.tensor([0, 1]), ["a", "b"])["thumbnails"]
    assert (thumbnails.min(), thumbnails.max()) == (0, 255)


@pytest.mark.parametrize("inputs", [torch.zeros(4, 16), torch.zeros(4, 12, 30), {"ids": torch.zeros(4, 7)}, object()])
def test_describe_test_shows_no_other_inputs_than_images(inputs):
    assert set(describe_test(inputs, torch.tensor([0, 1, 0, 1]), ["a", "b"])) == {"targets", "classes"}


def test_describe_test_keeps_a_regressions_targets():
    kept = describe_test(torch.zeros(4, 3, 8, 8), torch.arange(4.0), ())
    assert kept["targets"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert set(kept) == {"targets", "classes"}
