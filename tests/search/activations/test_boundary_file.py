"""Boundaries are searched for once a study, and read afterwards."""

import json

import pytest
import torch
from torch import nn

from search.activations import boundaries
from search.activations.boundaries import PartialInputs
from search.activations.boundary_file import boundaries_of
from strategies import layer_groups
from tests.search.activations.backbones import vectors


class Skipping(nn.Module):
    """Three layers whose code, not whose weights, says whether the first one's output is used again."""

    def __init__(self, *, skip: bool):
        super().__init__()
        torch.manual_seed(0)
        self.skip = skip
        self.one, self.two, self.three = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        first = self.one(x)
        last = self.three(self.two(first))
        return last + 3 * first if self.skip else last


@pytest.fixture
def searches(monkeypatch) -> list[nn.Module]:
    made = []

    def counted(backbone, groups, examples, *, known=None):
        if known is None:
            made.append(backbone)
        return search(backbone, groups, examples, known=known)

    search = boundaries.search_boundaries
    monkeypatch.setattr(boundaries, "search_boundaries", counted)
    return made


def found(backbone, folder, x=None):
    return boundaries_of(backbone, layer_groups(backbone), vectors() if x is None else x, folder=folder)


def layers(width: int = 8) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 8), nn.Linear(8, 8))


def test_boundaries_are_searched_for_once(tmp_path, searches):
    first, second = found(layers(), tmp_path), found(layers(), tmp_path)
    assert len(searches) == 1
    assert (first.indices, first.features, first.search) == (second.indices, second.features, second.search)
    assert first.cuts == second.cuts
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"[", b"[" * 100_000, b"{}", b"[1]", b"\xff\x00",
    b'{"9": {"cut": 0, "needs_inputs": false, "writes": false, "solid": false}}',
    b'{"1": {"cut": 77, "needs_inputs": false, "writes": false, "solid": false}}',
    b'{"1": {"cut": -1, "needs_inputs": "x", "writes": null, "solid": 7}}',
    b'{"1": {"cut": "os", "needs_inputs": 1, "writes": 2, "solid": 3}}',
    b'{"1": {"cut": 0, "needs_inputs": false, "writes": false, "solid": true}}',
])  # fmt: skip
def test_a_broken_file_is_replaced(tmp_path, searches, content):
    right = found(layers(), tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert found(layers(), tmp_path).indices == right.indices
    assert len(searches) == 2
    assert json.loads(file.read_bytes()).keys() == {"1", "2"}
    found(layers(), tmp_path)
    assert len(searches) == 2


def test_other_weights_inputs_and_layers_are_searched(tmp_path, searches):
    found(layers(), tmp_path)
    other = layers()
    with torch.no_grad():
        other[0].weight.mul_(1.01)
    found(other, tmp_path)
    found(layers(9), tmp_path)
    found(layers(), tmp_path, vectors()[:2])
    assert len(searches) == 4


@pytest.mark.parametrize("skip", [True, False])
def test_changed_code_is_searched(tmp_path, searches, skip):
    """Under the same weights, cuts that held may no longer hold."""
    x = vectors()
    found(Skipping(skip=not skip), tmp_path)
    backbone = Skipping(skip=skip).eval()
    cuts = found(backbone, tmp_path)
    partial = cuts.on(backbone)
    for boundary in cuts.indices[:-1]:
        values = PartialInputs(boundary, partial.run_to(x, boundary), x if cuts.needs_inputs(boundary) else None)
        torch.testing.assert_close(partial.run_from(values), backbone(x))
    assert len(searches) == 1 + skip, "where the cuts hold, they are not searched for again"


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path, searches):
    (tmp_path / "file").touch()
    assert found(layers(), tmp_path / "file" / "cache").indices == (1, 2, 3)
