"""The sentence and the figure of the parameters that mattered."""

import pytest

from search.report.knobs import knob_sentence, knobs
from search.verdict.importances import Importance


def importance(name, share, low, high, noise=0.5):
    return Importance(name=name, share=share, low=low, high=high, noise=noise)


DEPTH, RATE, EPOCH = (
    importance("freeze_depth", 0.6, 0.4, 0.8),
    importance("head_lr", 0.3, 0.1, 0.39),
    importance("unfreeze_epoch", 0.1, 0.0, 0.2),
)
SHARE = "60 % of their differences in rank (40-80)"


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ([DEPTH, RATE], f"Freeze depth mattered most in the 16 explored trials: {SHARE}, head LR 30 % (10-39)."),
        (
            [DEPTH, importance("head_lr", 0.3, 0.1, 0.45), EPOCH],
            f"The 16 explored trials do not show which mattered most: freeze depth has {SHARE}, head LR 30 % (10-45), "
            "unfreeze epoch 10 % (0-20).",
        ),
    ],
)
def test_sentence_names_one_only_beyond_the_noise(found, sentence):
    assert knob_sentence(found, trials=16) == sentence


def test_a_share_that_chance_gives_is_not_named():
    by_chance = importance("freeze_depth", 0.6, 0.4, 0.8, noise=0.7)
    assert knob_sentence([by_chance, RATE], trials=16).startswith("The 16 explored trials do not show")


def test_bars_are_the_shares_with_their_ranges():
    bars, chance = knobs([DEPTH, RATE]).data
    assert list(chance.x) == [50, 50]
    assert list(bars.x) == pytest.approx([30, 60])
    assert list(bars.y) == ["head<br>LR", "freeze<br>depth"]
    assert list(bars.error_x.array) == pytest.approx([9, 20])
