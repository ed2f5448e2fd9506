"""Layer groups in figures: parameters, FLOPs, and the effect of each freeze depth."""

import pytest
import torch
from rich.console import Console
from torch import nn
from torchvision.models import resnet18
from torchvision.models.vision_transformer import VisionTransformer

from search.models.flops import forward_flops
from search.spec.study_spec import StudySpec, find_study_file
from search.task.summary import GroupRow, summarize, table
from search.task.task import Task
from strategies import layer_groups
from tests.search.projects import PROJECT, study_of


def counted(backbone, inputs):
    groups = layer_groups(backbone)
    return dict(zip([group.name for group in groups], forward_flops(backbone, groups, inputs), strict=True))


def test_flops_are_those_of_the_arithmetic():
    network = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 7, bias=False))
    assert counted(network, torch.zeros(2, 3)) == {"0": 2 * 2 * 3 * 5, "1": 2 * 2 * 5 * 7}


def test_a_residual_networks_stages_cost_what_is_published():
    # 1.81 G multiply-adds at 224 px (torchvision's table), two operations each.
    backbone = resnet18()
    backbone.fc = nn.Identity()
    flops = counted(backbone, torch.zeros(1, 3, 224, 224))
    assert sum(flops.values()) == pytest.approx(2 * 1.81e9, rel=0.01)
    assert list(flops) == [group.name for group in layer_groups(backbone)]


def test_attention_counts_for_the_block_it_is_in():
    torch.manual_seed(0)
    backbone = VisionTransformer(
        image_size=32, patch_size=8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=2
    )
    backbone.heads = nn.Identity()
    *_, first, second, third = counted(backbone, torch.zeros(1, 3, 32, 32)).values()
    tokens, width = 17, 16
    linear = 2 * tokens * (4 * width * width + 2 * width * 32)
    attention = 2 * 2 * tokens * tokens * width
    assert first == second == third == linear + attention


def test_the_layers_of_one_lstm_share_its_cost_by_their_weights():
    lstm = nn.LSTM(3, 4, num_layers=2, batch_first=True)

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = lstm

        def forward(self, inputs):
            return self.lstm(inputs)[0][:, -1]

    first, second = counted(Last(), torch.zeros(2, 5, 3)).values()
    assert first == 2 * 2 * 5 * 16 * (3 + 4)
    assert second == 2 * 2 * 5 * 16 * (4 + 4)


def test_flops_count_past_a_parameter_as_input():
    class Block(nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs[0] + inputs[1])

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.token, self.block = nn.Parameter(torch.zeros(4)), Block(4, 4)

        def forward(self, inputs):
            return self.block((inputs, self.token))

    backbone = Tokens()
    backbone.block.bias.requires_grad_(False)
    assert counted(backbone, torch.zeros(2, 4)) == {"block": 2 * 2 * 4 * 4}
    assert [p.requires_grad for p in backbone.parameters()] == [True, True, False], "as it was"


def test_a_row_of_the_table_is_a_line_of_an_old_terminal():
    rows = [GroupRow(name=f"classifier.{n}", parameters=10**8, share=0.1, trained=10**8) for n in range(10)]
    with (console := Console(width=80)).capture() as capture:
        console.print(table(rows))
    assert len(capture.get().splitlines()) == 1 + len(rows)


def test_each_freeze_depth_trains_what_is_left():
    rows = summarize(StudySpec.from_file(find_study_file("digits")))
    assert [row.name for row in rows] == ["block1", "block2", "block3", "linear", "head"]
    assert sum(row.share for row in rows) == pytest.approx(1)
    for depth, row in enumerate(rows):
        assert row.trained == sum(r.parameters for r in rows[depth:])


OWN = """
class Scales(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.randn(6))

    def forward(self, x):
        return x * self.scale


def bare():
    return Net().backbone
"""


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [("Net", [2 * 6 * 16, 2 * 16 * 16, 2 * 16 * 4]), ("bare", [2 * 6 * 16, 2 * 16 * 16, 2 * 16 * 4]), ("Scales", [])],
)
def test_flops_of_a_task_are_an_examples(tmp_path, monkeypatch, backbone, expected):
    """The head's come last; a network without a counted operation has none."""
    (tmp_path / "own_flops.py").write_text(PROJECT + OWN)
    monkeypatch.chdir(tmp_path)
    spec = study_of("own_flops:Data", f"own_flops:{backbone}", space={"pretrained": True})
    assert Task.inspect(spec).facts["flops"] == expected
    assert sum(row.share for row in summarize(spec)) == pytest.approx(1 if expected else 0)
