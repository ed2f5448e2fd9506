"""Boundaries are searched for once a study, and read afterwards."""

import json

import pytest
import torch
from torch import nn

from search.activations import boundaries
from search.activations.boundary_file import boundaries_of
from strategies import layer_groups
from tests.search.activations.backbones import vectors

CODE = """
from torch import nn
from {helpers} import after

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        return after(self.three(self.two(self.one(x))))
"""


@pytest.fixture
def searches(monkeypatch) -> list[nn.Module]:
    made = []

    def counted(backbone, groups, examples):
        made.append(backbone)
        return search(backbone, groups, examples)

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


@pytest.mark.parametrize("content", [b"", b"[", b"[" * 100_000, b"{}", b'{"found": {}, "reason": ""}', b"\xff\x00",
    b'{"found": {"9": {"cut": 0, "needs_inputs": false, "writes": false, "solid": false}}, "reason": ""}',
    b'{"found": {"1": {"cut": 77, "needs_inputs": false, "writes": false, "solid": false}}, "reason": ""}',
    b'{"found": {"1": {"cut": "os", "needs_inputs": 1, "writes": 2, "solid": 3}}, "reason": ""}',
])  # fmt: skip
def test_a_broken_file_is_replaced(tmp_path, searches, content):
    right = found(layers(), tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert found(layers(), tmp_path).indices == right.indices
    assert len(searches) == 2
    assert json.loads(file.read_bytes())["found"]
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


def test_changed_code_is_searched(tmp_path, searches, monkeypatch):
    """Also that of a file which the backbone's own file imports."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "kept_helpers.py").write_text("def after(x):\n    return x\n")
    (tmp_path / "kept_net.py").write_text(CODE.format(helpers="kept_helpers"))
    import kept_net

    torch.manual_seed(0)
    backbone = kept_net.Net()
    for count, file in enumerate(["kept_net.py", "kept_net.py", "kept_helpers.py"], start=1):
        found(backbone, tmp_path / "cache")
        found(backbone, tmp_path / "cache")
        assert len(searches) == count
        with (tmp_path / file).open("a") as stream:
            stream.write("# edited\n")


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path, searches):
    (tmp_path / "file").touch()
    assert found(layers(), tmp_path / "file" / "cache").indices == (1, 2, 3)
