"""Weights from files: what fits, and what is said of what does not."""

import argparse
from pathlib import Path

import pytest
import torch

from search.errors import TaskError
from search.models.builtin import lenet
from search.models.registry import find_network
from search.models.weights import load_weights, match_state_dict
from search.spec.tables import Checkpoint, Model


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def state():
    torch.manual_seed(1)
    return lenet().state_dict()


def load(weights):
    spec = Model(backbone="lenet", weights=weights)
    return load_weights(spec, find_network(spec), lenet())


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_source_and_none_load_nothing():
    assert load("source") is None
    assert load("none") is None


@pytest.mark.parametrize("wrapped", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": s, "epoch": 3}])
def test_a_file_of_weights(state, wrapped):
    torch.save(wrapped(state), "w.pt")
    assert same(load("w.pt"), state)


def test_one_module_of_a_lightning_checkpoint(state):
    from lightning.pytorch import LightningModule, Trainer

    class Autoencoder(LightningModule):
        def __init__(self):
            super().__init__()
            self.encoder = lenet()
            self.decoder = torch.nn.Linear(84, 784)
            self.save_hyperparameters({"width": 3})

    module = Autoencoder()
    module.encoder.load_state_dict(state)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint("ae.ckpt")
    assert same(load(Checkpoint(checkpoint="ae.ckpt", module="encoder")), state)
    with pytest.raises(TaskError, match=r"'ae.ckpt' has no module 'encodr'; it has: decoder, encoder"):
        load(Checkpoint(checkpoint="ae.ckpt", module="encodr"))
    with pytest.raises(TaskError, match=r"it lacks conv1.0.weight.* and 5 more"):
        load(Checkpoint(checkpoint="ae.ckpt", module="decoder"))
    with pytest.raises(TaskError, match=r'begin with \'encoder.\'. Say weights = .* module = "encoder"'):
        load("ae.ckpt")


def test_safetensors(state):
    files = pytest.importorskip("safetensors.torch")
    files.save_file(state, "w.safetensors")
    assert same(load("w.safetensors"), state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("conv2.0.bias"), r"'w.pt' does not fit the backbone: it lacks conv2.0.bias\."),
        (lambda s: s.update(fc=torch.zeros(2)), r"it has unknown fc\."),
        (lambda s: s["conv2.0.bias"].fill_(torch.nan), r"not finite: conv2.0.bias"),
        (lambda s: s.update({"conv2.0.bias": torch.zeros(3)}), r"other shapes: conv2.0.bias is \(3,\), not \(16,\)"),
    ],
)
def test_keys_that_do_not_fit_are_named(state, change, message):
    change(state)
    torch.save(state, "w.pt")
    with pytest.raises(TaskError, match=message):
        load("w.pt")


@pytest.mark.parametrize(
    "stranger", [Path("a"), lenet(), torch.nn.functional.relu, argparse.Namespace(lr=1), {Path("a")}]
)
def test_hyperparameters_of_any_class_are_passed_over(state, stranger):
    wrapped = {f"encoder.{key}": value for key, value in state.items()}
    torch.save({"state_dict": wrapped, "hyper_parameters": {"it": stranger}}, "ae.ckpt")
    assert same(load(Checkpoint(checkpoint="ae.ckpt", module="encoder")), state)


@pytest.mark.parametrize(
    ("content", "module"),
    [
        (lambda s: {"_orig_mod." + key: value for key, value in s.items()}, ""),
        (lambda s: {"state_dict": {f"net._orig_mod.{key}": value for key, value in s.items()}}, "net"),
        (lambda s: {"module." + key: value for key, value in s.items()}, "module"),
        (lambda s: {"model": {k: 0 * v for k, v in s.items()}, "model_ema": s}, "model_ema"),
        (lambda s: {"teacher": {"backbone." + key: value for key, value in s.items()}}, "teacher.backbone"),
        (lambda s: {key: torch.nn.Parameter(value) for key, value in s.items()}, ""),
    ],
)
def test_names_of_compiled_and_averaged_models_fit(state, content, module):
    torch.save(content(state), "w.pt")
    assert same(load(Checkpoint(checkpoint="w.pt", module=module)), state)
    if module and "_ema" not in module:
        with pytest.raises(TaskError, match=f'Say weights = .* module = "{module}"'):
            load("w.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"not weights at all", "is no file of weights, or a damaged one"),
        ([1, 2], "holds a list, no state dict"),
        (argparse.Namespace(code="runs"), "holds a whole pickled object, no state dict"),
        ({"epoch": 3}, "holds no tensors"),
    ],
)
def test_files_that_hold_no_weights_are_refused(tmp_path, content, message):
    if isinstance(content, bytes):
        (tmp_path / "w.pt").write_bytes(content)
    elif content is not None:
        torch.save(content, "w.pt")
    with pytest.raises(TaskError, match=message) as caught:
        load("w.pt")
    assert "\n" not in str(caught.value)


def test_a_compiled_backbone_takes_the_same_names(state):
    compiled = torch.compile(lenet())
    found = match_state_dict(state, compiled, where="here")
    assert same({key.removeprefix("_orig_mod."): value for key, value in found.items()}, state)
    compiled.load_state_dict(found)


def test_a_network_without_weights_of_its_own_says_so():
    with pytest.raises(TaskError, match=r"'DEFAULT': lenet has none of its own; allowed: a file"):
        load("DEFAULT")
