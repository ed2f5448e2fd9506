"""Broken strategy files: a `ValueError` of one line."""

import pickle
from pathlib import Path

import pytest

from strategies import load_strategy
from tests.search.hostile.sandbox import one_line


def field(text):
    return b'{"strategy": {"freeze_depth": 0, ' + text + b"}}"


JSON = {
    "no table": b'{"strategy": 5}',
    "an unknown field": field(b'"__class__": "os.system"'),
    "a huge key": field(b'"' + b"x" * 10**6 + b'": 1'),
    "a key to show": field(b'"\\u001b[2J\\n": 1'),
    "a huge text": field(b'"scheduler": "\\u001b[2J' + b"x" * 10**6 + b'"'),
    "a huge number": field(b'"head_lr": ' + b"9" * 5000),
    "NaN": field(b'"head_lr": NaN'),
    "a list for a word": field(b'"scheduler": ["constant"]'),
    "deep": b"[" * 10**5,
    "a pickle": pickle.dumps(print),
}
TOML = {
    "two tables": b"[strategy]\nfreeze_depth = 0\n[strategy]\n",
    "deep": b"[strategy]\nfreeze_depth = " + b"[" * 10**5,
    "a huge number": b"[strategy]\nfreeze_depth = 0\nhead_lr = 0x" + b"f" * 5000,
    "control characters": b"[strategy]\n\x1b[2J = 1",
}
FILES = {("x.json", attack): content for attack, content in JSON.items()} | {
    ("x.toml", attack): content for attack, content in TOML.items()
}


@pytest.mark.parametrize("attack", FILES, ids="-".join)
def test_broken_strategy_file_is_a_value_error_of_one_line(sandbox, attack):
    name, _ = attack
    Path(name).write_bytes(FILES[attack])
    sandbox.arm()
    with pytest.raises(ValueError, match=name) as caught:
        load_strategy(name)
    assert len(one_line(caught.value)) < 1000
    sandbox.check()


@pytest.mark.parametrize("name", ["pipe.toml", "null.json"])
def test_path_to_no_strategy_file_is_a_value_error(sandbox, name):
    sandbox.place(name)
    Path("null.json").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="file"):
        load_strategy(name)
