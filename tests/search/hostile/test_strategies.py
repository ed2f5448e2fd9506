"""Strategy files that are none: a `ValueError` of one line."""

import os
import pickle
from pathlib import Path

import pytest

from strategies import load_strategy

STRATEGIES = {
    "empty": b"",
    "NUL": b"\0",
    "not UTF-8": b"\xff\xfe\x00",
    "BOM": b'\xef\xbb\xbf{"strategy": 5}',
    "a list": b"[1, 2]",
    "a word": b'"strategy"',
    "no table": b'{"strategy": 5}',
    "null": b'{"strategy": null}',
    "empty table": b'{"strategy": {}}',
    "an unknown field": b'{"strategy": {"freeze_depth": 0, "__class__": "os.system"}}',
    "a huge key": b'{"strategy": {"freeze_depth": 0, "' + b"x" * 10**6 + b'": 1}}',
    "a key to show": b'{"strategy": {"freeze_depth": 0, "\\u001b[2J\\n": 1}}',
    "a huge text": b'{"strategy": {"freeze_depth": 0, "scheduler": "' + b"x" * 10**6 + b'"}}',
    "a text to show": b'{"strategy": {"freeze_depth": 0, "scheduler": "\\u001b[2J\\n"}}',
    "a huge number": b'{"strategy": {"freeze_depth": ' + b"9" * 5000 + b"}}",
    "a number beyond floats": b'{"strategy": {"freeze_depth": 0, "head_lr": ' + b"9" * 400 + b"}}",
    "NaN": b'{"strategy": {"freeze_depth": 0, "head_lr": NaN}}',
    "infinity": b'{"strategy": {"freeze_depth": 0, "head_lr": Infinity}}',
    "1e999": b'{"strategy": {"freeze_depth": 0, "head_lr": 1e999}}',
    "negative": b'{"strategy": {"freeze_depth": -1}}',
    "a fraction": b'{"strategy": {"freeze_depth": 1.5}}',
    "a truth": b'{"strategy": {"freeze_depth": true}}',
    "a table for a number": b'{"strategy": {"freeze_depth": {"a": 1}}}',
    "a list for a word": b'{"strategy": {"freeze_depth": 0, "scheduler": ["constant"]}}',
    "a word for a truth": b'{"strategy": {"freeze_depth": 0, "pretrained": "' + b"x" * 10**6 + b'"}}',
    "the last of two": b'{"strategy": {"freeze_depth": 0, "freeze_depth": -1}}',
    "deep": b"[" * 10**5,
    "deep tables": b'{"strategy":' * 10**4 + b"1" + b"}" * 10**4,
    "a pickle": pickle.dumps(print),
}
TOML = {
    "twice": b"[strategy]\nfreeze_depth = 0\nfreeze_depth = 1",
    "two tables": b"[strategy]\nfreeze_depth = 0\n[strategy]\n",
    "an array of tables": b"[[strategy]]\nfreeze_depth = 0",
    "deep": b"[strategy]\nfreeze_depth = " + b"[" * 10**5,
    "deep tables": b"[strategy]\nx = " + b"{a=" * 10**4,
    "a huge number": b"[strategy]\nfreeze_depth = " + b"9" * 5000,
    "hexadecimal": b"[strategy]\nfreeze_depth = 0\nhead_lr = 0x" + b"f" * 5000,
    "NaN": b"[strategy]\nfreeze_depth = 0\nhead_lr = nan",
    "a date": b"[strategy]\nfreeze_depth = 1979-05-27",
    "code": b"[strategy]\nfreeze_depth = __import__('os')",
    "control characters": b"[strategy]\n\x1b[2J = 1",
    "a dotted key": b"[strategy]\nfreeze_depth.__class__ = 1",
    "a huge key": b"[strategy]\nfreeze_depth = 0\n" + b"x" * 10**6 + b" = 1",
}


@pytest.mark.parametrize(
    ("name", "attack"), [*(("x.json", attack) for attack in STRATEGIES), *(("x.toml", attack) for attack in TOML)]
)
def test_a_strategy_file_that_is_none_is_a_value_error_of_one_line(sandbox, name, attack):
    Path(name).write_bytes((STRATEGIES if name == "x.json" else TOML)[attack])
    sandbox.arm()
    with pytest.raises(ValueError, match=name) as caught:
        load_strategy(name)
    said = str(caught.value)
    assert "\n" not in said
    assert "\x1b" not in said
    assert len(said) < 1000
    sandbox.check()


@pytest.mark.parametrize("name", ["pipe.toml", "folder.toml", "null.json", "x.py", "x"])
def test_nor_is_a_path_that_is_no_file(sandbox, name):
    os.mkfifo("pipe.toml")
    os.mkdir("folder.toml")
    os.symlink("/dev/zero", "null.json")
    with pytest.raises(ValueError, match="file"):
        load_strategy(name)
