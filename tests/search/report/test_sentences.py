"""The answer in sentences."""

from dataclasses import replace

import numpy as np
import pytest

from search.report import sentences
from search.report.sentences import answers, in_words, more_labels
from search.report.terminal import answer
from search.verdict.judge import judge_all
from search.verdict.metric import METRICS
from search.verdict.more_labels import Step
from search.verdict.trivial import Trivial
from strategies import FreezingStrategy
from tests.search.report.test_winners import verdict
from tests.search.verdict.rows import candidate
from tests.search.verdict.test_judge import regression, squared_errors
from tests.search.verdict.test_more_labels import nested

RESULTS = regression(squared_errors(np.random.default_rng(0), truth=[0.3, 0.5]))
HALF = FreezingStrategy(freeze_depth=2, head_lr=3e-3, backbone_lr_ratio=1.0)


def judged(size, best=HALF, *, loss=0.004, probing=0.15, **facts):
    """Return a verdict that recommends a strategy, with linear probing and from scratch as baselines."""
    every = (
        candidate(str(best.family(4)), 0.9, strategy=best, expected_loss=loss),
        candidate("linear probing", 0.7, expected_loss=0.05, strategy=FreezingStrategy(freeze_depth=4)),
        candidate("linear probing", 0.6, expected_loss=probing, baseline=True),
        candidate("from scratch", 0.6, expected_loss=size / 2000, baseline=True),
    )
    fields = {"candidates": every, "every_candidate": every, "recommended": every[0], **facts}
    return replace(verdict(size, [1.0]), **fields)


def test_one_sentence_names_each_range_of_the_same_answer():
    """Rates may differ within a range; the lazy ways are baselines, not what the search found of their family."""
    verdicts = {
        50: judged(50),
        100: judged(100, replace(HALF, head_lr=1e-3), loss=0.011, probing=0.178),
        200: judged(200, replace(HALF, freeze_depth=1)),
        400: judged(400),
    }
    found = answers(RESULTS, verdicts)
    assert [one.sizes for one in found] == [(50, 100), (200,), (400,)]
    assert found[0].text == (
        "50-100 labels: keep the first 2 of 4 groups frozen, train the rest at 0.001-0.003. "
        "Expected loss against the best 0.4-1.1 points. Linear probing loses 15-18, from scratch 2.5-5.0."
    )
    assert found[2].text.endswith("Linear probing loses 15, from scratch 20.")


def test_a_lazy_way_that_is_recommended_loses_nothing_more():
    probing = judged(50, FreezingStrategy(freeze_depth=4, head_lr=0.01))
    (one,) = answers(RESULTS, {50: probing})
    assert one.advice == "keep the whole backbone frozen, train the head alone at 0.01"
    assert one.loss == "Expected loss against the best 0.4 points. From scratch loses 2.5."


def test_lazy_way_without_a_baseline_is_its_familys_best():
    every = tuple(replace(c, baseline=False) for c in judged(50).every_candidate)
    (one,) = answers(RESULTS, {50: judged(50, candidates=every, every_candidate=every)})
    assert one.loss.endswith("Linear probing loses 5.0, from scratch 2.5.")


def test_sizes_without_advice_say_why():
    few, guessing = (
        judged(50, repeats=2),
        judged(100, trivial=Trivial(guess="x", scores=(0.95,), metric=METRICS["accuracy"])),
    )
    found = answers(RESULTS, {50: few, 100: guessing, 200: judged(200)})
    assert [one.advice for one in found[:2]] == [few.sentence, guessing.sentence]
    assert [one.loss for one in found[:2]] == ["", ""]
    assert found[2].advice.startswith("keep the first 2")


def test_runs_that_failed_to_train_are_counted():
    """The recommended strategy has its own, over the sizes of its range."""
    some = judged(100)
    failing = replace(some, recommended=replace(some.recommended, failed_to_train=1, repeats=8))
    assert answers(RESULTS, {50: judged(50), 100: failing})[0].loss.endswith(". 1 of 13 runs failed to train.")


def test_one_candidate_is_compared_with_none():
    alone = judged(50)
    (one,) = answers(RESULTS, {50: replace(alone, every_candidate=alone.candidates[:1])})
    assert one.loss == "Nothing else was confirmed."


def test_errors_lose_in_their_own_unit():
    metric = METRICS["rmse"]
    (one,) = answers(RESULTS, {50: replace(judged(50), metric=metric)})
    assert one.loss.startswith(
        "Expected loss against the best 0.004 (root mean squared error). Linear probing loses 0.15"
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"freeze_depth": 4}, "keep the whole backbone frozen, train the head alone at 0.003"),
        ({"freeze_depth": 3}, "keep all but the last of 4 groups frozen, train it and the head at 0.003"),
        ({"freeze_depth": 1}, "keep the first of 4 groups frozen, train the rest at 0.003"),
        ({"freeze_depth": 0}, "train everything at 0.003"),
        ({"freeze_depth": 0, "pretrained": False}, "start from random weights, train everything at 0.003"),
        (
            {"freeze_depth": 0, "backbone_lr_ratio": 0.1},
            "train everything, at 0.003 for the head and 0.0003 for the groups",
        ),
        (
            {"freeze_depth": 0, "unfreeze_epoch": 6},
            "train the head alone for the first 6 of 20 epochs, then everything at 0.003",
        ),
        (
            {"freeze_depth": 1, "unfreeze_epoch": 1, "epochs_per_group": 2, "layer_lr_decay": 0.5},
            "keep the first of 4 groups frozen, train the head alone for the first 1 of 20 epochs, then one more group "
            "every 2 epochs, the last first, at 0.003 for the head and 0.003 for the groups, less towards the input",
        ),
        (
            {"freeze_depth": 0, "epochs_per_group": 1},
            "train the head and the last group, then one more group every epoch, the last first at 0.003",
        ),
        (
            {"freeze_depth": 2, "parameters": "norm", "scheduler": "cosine"},
            "keep the first 2 of 4 groups frozen, train the rest at 0.003, of the groups only normalisation layers, "
            "rates falling to 0",
        ),
    ],
)
def test_a_strategy_is_said_in_plain_words(fields, words):
    strategy = FreezingStrategy(**{"head_lr": 3e-3, "backbone_lr_ratio": 1.0, **fields})
    assert in_words([strategy], num_groups=4, epochs=20) == words


def test_the_range_of_epochs_is_said():
    some = [replace(HALF, unfreeze_epoch=epoch) for epoch in (5, 10, 8)]
    assert "for the first 5-10 of 20 epochs, then the rest" in in_words(some, num_groups=4, epochs=20)


@pytest.mark.parametrize(
    ("metric", "sizes", "sentence"),
    [
        (
            "accuracy",
            (50, 100, 200),
            "Doubling from 50 to 100 labels brought 2.3 points (1.1-3.4), from 100 to 200 -0.4 (-1.6 to 0.8).",
        ),
        ("accuracy", (50, 200), "Going from 50 to 200 labels brought 2.3 points (1.1-3.4)."),
        ("loss", (50, 100), "Doubling from 50 to 100 labels changed the loss by 0.023 (0.011-0.034)."),
    ],
)
def test_more_labels_are_said_with_their_interval(metric, sizes, sentence, monkeypatch):
    changes = ((0.023, 0.011, 0.034), (-0.004, -0.016, 0.008))
    found = [
        Step(before=before, after=after, change=change, low=low, high=high)
        for before, after, (change, low, high) in zip(sizes, sizes[1:], changes, strict=False)
    ]
    monkeypatch.setattr(sentences, "steps", lambda *_: found)
    spec = RESULTS.spec.changed(task={"metric": metric})
    kind = "classification" if metric == "accuracy" else "regression"
    assert more_labels(replace(RESULTS, spec=spec, kind=kind), {}) == sentence


def test_the_terminal_says_the_same():
    study = nested(np.random.default_rng(0))
    verdicts = judge_all(study)
    lines = answer(study, verdicts).splitlines()
    assert lines[:2] == [*(one.text for one in answers(study, verdicts)), more_labels(study, verdicts)]
    assert [line.split()[0] for line in lines[2:]] == ["50", "100"]
    assert all(len(line) <= 60 for line in answer(study, verdicts, width=60).splitlines())
