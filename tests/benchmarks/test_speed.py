"""The benchmark runs, and its two rivals learn the same."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.soak
def test_script_and_product_have_the_same_losses(assets, tmp_path):
    command = [sys.executable, str(Path(__file__).with_name("speed.py")), "--quick", "--only", "list-resnet,growth"]
    file = tmp_path / "figures.json"
    done = subprocess.run([*command, "--json", str(file)], capture_output=True, text=True, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text())["parts"]["list-resnet"]["result"]["rows"]
    assert len(rows) == 5
    assert max(row["difference"] for row in rows) <= 1e-4
