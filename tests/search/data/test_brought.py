"""A `collate_fn` that mixes examples is named as the cause."""

import pytest

from search.data.load import load_data
from search.errors import TaskError
from tests.search.projects import PROJECT

MIXING = """
import numpy as np
from torch.nn.functional import one_hot
from torch.utils.data import default_collate


def mixup(items):
    x, y = default_collate(items)
    share, order = np.random.beta(1, 1), torch.randperm(len(x))
    soft = one_hot(y, 4).float()
    return share * x + (1 - share) * x[order], share * soft + (1 - share) * soft[order]


def pairs(items):
    x, y = default_collate(items)
    order = torch.randperm(len(x))
    return x, (y, y[order], 0.3)


def three(items):
    x, y = default_collate(items)
    return x, y, y.flip(0)


def even(items):
    assert len(items) % 2 == 0, "batch size should be even"
    return default_collate(items)


def hot(items):
    x, y = default_collate(items)
    return x, one_hot(y, 4).float()


class Mixing(Data):
    def __init__(self, collate):
        super().__init__()
        self.collate = globals()[collate]

    def train_dataloader(self):
        return DataLoader(examples(0, 301), 32, shuffle=True, collate_fn=self.collate)

    def test_dataloader(self):
        return DataLoader(examples(1, 90), 32, collate_fn=self.collate if self.collate is hot else None)


class Untested(Mixing):
    def test_dataloader(self):
        return None
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    (tmp_path / "mixing.py").write_text(PROJECT + MIXING)
    monkeypatch.chdir(tmp_path)
    return lambda collate, name="Mixing": load_data(f"mixing:{name}", {"collate": collate}, where="[task] data")


@pytest.mark.parametrize(
    ("collate", "name", "message"),
    [
        ("mixup", "Mixing", r"collate_fn 'mixup' .*soft targets \(301, 4\) of class indices, as mixup.*training_step"),
        ("mixup", "Untested", r"collate_fn 'mixup' .*soft targets \(301, 4\)"),
        ("pairs", "Mixing", "are no numbers.*its collate_fn 'pairs' makes it.*training_step"),
        ("three", "Mixing", "must be a pair.*its collate_fn 'three' makes it"),
        ("even", "Mixing", "should be even; its collate_fn 'even' makes it"),
    ],
)
def test_collate_that_mixes_is_named_as_the_cause(load, collate, name, message):
    """With a test set of its own and without."""
    with pytest.raises(TaskError, match=message) as raised:
        load(collate, name)
    assert "\n" not in str(raised.value)


def test_collate_of_one_hot_targets_gets_a_note(load):
    """They may be meant; then it is regression, and said why."""
    data = load("hot")
    assert data.kind == "regression"
    assert any("collate_fn 'hot' of the first data set makes one-hot targets (301, 4)" in note for note in data.notes)
