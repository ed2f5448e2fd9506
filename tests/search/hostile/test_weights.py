"""Broken weights: no code in them runs, and each is refused in one line."""

import io
import pickle

import pytest
import torch

from search.errors import TaskError
from search.models.builtin import lenet
from search.models.registry import find_network
from search.models.weights import load_weights
from search.spec.tables import Checkpoint, Model
from tests.search.hostile.archives import bomb
from tests.search.hostile.sandbox import one_line


@pytest.mark.parametrize("read", [pickle.load, lambda file: torch.load(file, weights_only=False)])
def test_payload_runs_where_it_may(tmp_path, sandbox, read):
    """The control: without it none of the tests below could fail."""
    file = tmp_path / "x.pt"
    file.write_bytes(pickle.dumps(sandbox.payload) if read is pickle.load else saved({"state_dict": sandbox.payload}))
    with file.open("rb") as stream:
        read(stream)
    assert sandbox.canary.exists()
    assert sandbox.seen


def saved(content, **options):
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def changed(change):
    return saved({key: change(value) for key, value in lenet().state_dict().items()})


def deep(levels):
    table = {"a": torch.ones(1)}
    for _ in range(levels):
        table = {"a": table}
    return table


def tensors(text):
    return len(text).to_bytes(8, "little") + text


WEIGHTS = {
    "w.pt": {
        "a pickle": lambda s: pickle.dumps(s.payload),
        "an old pickle": lambda s: saved(s.payload, _use_new_zipfile_serialization=False),
        "a payload beside": lambda s: saved({"state_dict": lenet().state_dict(), "hyper_parameters": s.payload}),
        "a payload within": lambda s: saved({**lenet().state_dict(), "conv1.0.weight": s.payload}),
        "a whole module": lambda s: saved(lenet()),
        "a bomb": lambda s: bomb(),
        "keys of numbers": lambda s: saved({1: torch.ones(1), None: torch.ones(1)}),
        "names to show": lambda s: saved({"\x1b[2J\n\u202e<script>" + "x" * 10**6: torch.ones(1)}),
        "deep": lambda s: saved(deep(400)),
        "a view beyond": lambda s: saved({"conv1.0.weight": torch.ones(1).expand(10**12)}),
        "not finite": lambda s: changed(lambda value: value * torch.inf),
    },
    "w.safetensors": {
        "a huge header": lambda s: (2**63).to_bytes(8, "little") + b"{}",
        "deep JSON": lambda s: tensors(b"[" * 10**5),
        "beyond": lambda s: tensors(b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'),
    },
}


def refuses_weights(weights):
    spec = Model(backbone="lenet", weights=weights)
    with pytest.raises(TaskError) as caught:
        load_weights(spec, find_network(spec), lenet())
    one_line(caught.value)


@pytest.mark.parametrize(("name", "attack"), [(name, attack) for name in WEIGHTS for attack in WEIGHTS[name]])
def test_broken_weights_are_refused(sandbox, name, attack):
    (sandbox.work / name).write_bytes(WEIGHTS[name][attack](sandbox))
    sandbox.arm()
    refuses_weights(name)
    refuses_weights(Checkpoint(checkpoint=name, module="encoder"))
    sandbox.check()


@pytest.mark.parametrize("path", ["pipe.pt", "loop.pt", "\0", "\udcff.pt"])
def test_path_to_no_weights_is_refused(sandbox, path):
    sandbox.place(path)
    refuses_weights(path)
    refuses_weights(Checkpoint(checkpoint=path))
    sandbox.check()
