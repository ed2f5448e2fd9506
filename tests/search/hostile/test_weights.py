"""Weights that are none: no code in them runs, and each is one line."""

import io
import os
import pickle
import warnings

import pytest
import torch

from search.errors import TaskError
from search.models.builtin import lenet
from search.models.registry import find_network
from search.models.weights import load_weights
from search.spec.tables import Checkpoint, Model
from tests.search.hostile.archives import bomb, zipped


@pytest.mark.parametrize("read", [pickle.load, lambda file: torch.load(file, weights_only=False)])
def test_the_payload_does_run_where_it_is_let(tmp_path, sandbox, read):
    # The control: none of the tests below could fail if this did.
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


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stream = io.BytesIO()
        torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1, 1)), stream)
    return stream.getvalue()


def tensors(text):
    return len(text).to_bytes(8, "little") + text


WEIGHTS = {
    "w.pt": {
        "empty": lambda s: b"",
        "four bytes": lambda s: b"\x80\x02}q",
        "text": lambda s: b"weights",
        "a pickle": lambda s: pickle.dumps(s.payload),
        "an old pickle": lambda s: saved(s.payload, _use_new_zipfile_serialization=False),
        "a payload": lambda s: saved(s.payload),
        "a payload beside": lambda s: saved({"state_dict": lenet().state_dict(), "hyper_parameters": s.payload}),
        "a payload within": lambda s: saved({**lenet().state_dict(), "conv1.0.weight": s.payload}),
        "a payload as a key": lambda s: saved({(s.payload,): 1}),
        "a whole module": lambda s: saved(lenet()),
        "a function": lambda s: saved(os.system),
        "nothing": lambda s: saved(None),
        "a number": lambda s: saved(7),
        "no tensors": lambda s: saved({"a": {"b": 1}}),
        "paths": lambda s: zipped(**{"../../outside/x": "x", "/etc/x": "x", "archive/data.pkl": "x"}),
        "two pickles": lambda s: zipped(**{"a/data.pkl": pickle.dumps({}), "b/data.pkl": pickle.dumps(s.payload)}),
        "cut short": lambda s: saved(lenet().state_dict())[:-1000],
        "TorchScript": lambda s: scripted(),
        "a bomb": lambda s: bomb(),
        "keys of numbers": lambda s: saved({1: torch.ones(1), None: torch.ones(1)}),
        "huge names": lambda s: saved({"x" * 10**6: torch.ones(1)}),
        "names to show": lambda s: saved({"\x1b[2J\n\u202e<script>": torch.ones(1)}),
        "deep": lambda s: saved(deep(400)),
        "a view beyond": lambda s: saved({"conv1.0.weight": torch.ones(1).expand(10**12)}),
        "not finite": lambda s: saved({key: value * torch.inf for key, value in lenet().state_dict().items()}),
        "sparse": lambda s: saved({key: value.to_sparse() for key, value in lenet().state_dict().items()}),
        "complex": lambda s: saved({key: value.to(torch.complex64) for key, value in lenet().state_dict().items()}),
    },
    "w.safetensors": {
        "empty": lambda s: b"",
        "four bytes": lambda s: b"\xff\xff\xff\xff",
        "a huge header": lambda s: (2**63).to_bytes(8, "little") + b"{}",
        "no JSON": lambda s: tensors(b"{"),
        "deep JSON": lambda s: tensors(b"[" * 10**5),
        "no tensors": lambda s: tensors(b"{}"),
        "beyond": lambda s: tensors(b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'),
        "overlapping": lambda s: tensors(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}'),
        "an unknown type": lambda s: (
            tensors(b'{"a":{"dtype":"os.system","shape":[1],"data_offsets":[0,4]}}') + bytes(4)
        ),
        "a pickle": lambda s: pickle.dumps(s.payload),
    },
}


def deep(levels):
    table = {"a": torch.ones(1)}
    for _ in range(levels):
        table = {"a": table}
    return table


def refuses_weights(weights):
    spec = Model(backbone="lenet", weights=weights)
    with pytest.raises(TaskError) as caught:
        load_weights(spec, find_network(spec), lenet())
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize(("name", "attack"), [(name, attack) for name in WEIGHTS for attack in WEIGHTS[name]])
def test_weights_that_are_none_are_one_line(sandbox, name, attack):
    (sandbox.work / name).write_bytes(WEIGHTS[name][attack](sandbox))
    sandbox.arm()
    refuses_weights(name)
    refuses_weights(Checkpoint(checkpoint=name, module="encoder"))
    sandbox.check()


@pytest.mark.parametrize(
    "path",
    [
        "pipe.pt",
        "folder.pt",
        "/dev/zero",
        "/dev/null",
        "loop.pt",
        "nothing.pt",
        "",
        "\0",
        "x" * 600,
        "\udcff.pt",
        "../outside/x",
    ],
)
def test_a_path_to_weights_that_is_no_file_is_one_line(sandbox, path):
    os.mkfifo("pipe.pt")
    os.mkdir("folder.pt")
    os.symlink("loop.pt", "loop.pt")
    sandbox.arm()
    refuses_weights(path)
    refuses_weights(Checkpoint(checkpoint=path))
    sandbox.check()
