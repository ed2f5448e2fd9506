"""Networks by name, of ours and of the user's, and what is said of those that can't be."""

import pytest
import torch
from torch import nn

from search.errors import TaskError
from search.models.builtin import BACKBONES, StackedLSTM
from search.models.checks import check_order, feature_width
from search.models.registry import find_network
from search.spec.tables import Model
from strategies import layer_groups


def model(backbone, **keys):
    return Model(backbone=backbone, **{"weights": "none", **keys})


def built(backbone, **keys):
    return find_network(model(backbone, **keys)).build()


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Somebody's own module of networks, in the working directory."""
    (tmp_path / "mine.py").write_text(
        "from lightning.pytorch import LightningModule\nfrom torch import nn\n"
        "def plain(width=4): return nn.Linear(3, width)\n"
        "def pair(): return nn.Linear(3, 4), nn.Linear(4, 2)\n"
        "def wrong(): return 'a network'\n"
        "def fails(): raise RuntimeError('no such layer')\n"
        "class Whole(LightningModule):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.backbone = nn.Linear(3, 4)\n        self.head = nn.Linear(4, 2)\n"
        "class Half(LightningModule):\n"
        "    def __init__(self):\n        super().__init__()\n        self.backbone = nn.Linear(3, 4)\n"
    )
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "options", "inputs", "width", "groups"),
    [
        ("small_cnn", {}, torch.zeros(2, 1, 8, 8), 64, 4),
        ("lenet", {}, torch.zeros(2, 1, 28, 28), 84, 4),
        ("lenet", {"channels": 3}, torch.zeros(2, 3, 28, 28), 84, 4),
        ("lstm", {"input_size": 3, "hidden_size": 8}, torch.zeros(2, 5, 3), 8, 3),
        ("lstm", {"input_size": 3, "num_layers": 2, "bidirectional": True}, torch.zeros(2, 5, 3), 128, 2),
        ("lstm", {"input_size": 3, "bidirectional": True, "proj_size": 5}, torch.zeros(2, 5, 3), 10, 3),
    ],
)
def test_our_own_networks(name, options, inputs, width, groups):
    backbone = built(name, options=options).backbone
    assert feature_width(backbone, inputs) == width
    assert len(layer_groups(backbone)) == groups
    assert name in BACKBONES


def test_a_padded_series_gives_the_features_of_the_series_alone():
    torch.manual_seed(0)
    network = StackedLSTM(input_size=2, hidden_size=4, num_layers=2, bidirectional=True).eval()
    short, long = torch.randn(3, 2), torch.randn(6, 2)
    padded = torch.stack([torch.cat([short, torch.zeros(3, 2)]), long])
    together = network({"values": padded, "lengths": torch.tensor([3, 6])})
    assert torch.allclose(together[0], network(short.unsqueeze(0))[0], atol=1e-6)
    assert torch.allclose(together[1], network(long.unsqueeze(0))[0], atol=1e-6)


def test_a_users_network_may_have_a_head_or_a_module(mine):
    assert built("mine:plain", options={"width": 7}).backbone.out_features == 7
    assert built("mine:pair").head.out_features == 2
    whole = built("mine:Whole")
    assert whole.module.backbone is whole.backbone
    assert whole.module.head is whole.head


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "resnet19",
            {},
            r"'resnet19' is not known \(did you mean resnet18 or .*\); allowed: small_cnn, lenet, lstm, a",
        ),
        ("torchvision/resnt", {}, "torchvision has no classifier 'resnt'"),
        ("lenet", {"chanels": 3}, "'lenet' with options {'chanels': 3} can't be built: .*unexpected keyword argument"),
        ("lstm", {}, "can't be built: .*input_size"),
        ("mine:wrong", {}, "returned a str; it must return a torch module"),
        ("mine:Half", {}, "returned a Half; it must return a torch module"),
        ("mine:fails", {}, "no such layer"),
        ("mine:nothing", {}, "'mine:nothing'"),
        ("mine:plain", {"with": 3}, "with"),
    ],
)
def test_impossible_networks_are_refused_in_one_line(mine, name, options, message):
    with pytest.raises(TaskError, match=message) as caught:
        built(name, options=options)
    assert "\n" not in str(caught.value)


def test_features_of_another_shape_are_named():
    with pytest.raises(TaskError, match=r"features of shape \(2, F\), got \(2, 4, 3, 3\)"):
        feature_width(nn.Conv2d(1, 4, 1), torch.zeros(2, 1, 3, 3))
    with pytest.raises(TaskError, match=r"fails on inputs of shape \(2, 3\): RuntimeError"):
        feature_width(nn.Linear(4, 4), torch.zeros(2, 3))


class Backwards(nn.Module):
    """Registers its last part first, and runs by a rule that no trace can follow."""

    def __init__(self):
        super().__init__()
        self.last, self.middle, self.first = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, inputs):
        if inputs.sum() > 1e9:
            return inputs
        return self.last(self.middle(self.first(inputs)))


def test_groups_that_run_in_another_order_are_refused():
    network, inputs = Backwards(), torch.zeros(2, 4)
    with pytest.raises(TaskError, match=r"run in the order first, middle, last, but are listed as last, middle, first"):
        check_order(network, layer_groups(network), inputs)
    check_order(network, layer_groups(network, groups=["first.*", "middle.*", "last.*"]), inputs)
