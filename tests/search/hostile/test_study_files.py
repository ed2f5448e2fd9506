"""Study files that are none: read, checked and refused in one line, before anything that they name is looked at."""

import os
import pickle

import pytest

TEXT = """
[task]
data = "digits"
sizes = [20, 40]
[model]
backbone = "small_cnn"
weights = "none"
"""


def said(change, to):
    """The study file with a part of it replaced."""
    assert change in TEXT
    return TEXT.replace(change, to).encode()


BACKBONE = 'backbone = "small_cnn"'
SIZES = "sizes = [20, 40]"
FILES = {
    "empty": b"",
    "NUL": b"\0" * 1000,
    "Latin-1": said("digits", "d").replace(b'"d"', b'"\xe9"'),
    "UTF-16": TEXT.encode("utf-16"),
    "BOM": b"\xef\xbb\xbf" + TEXT.encode(),
    "a surrogate": said("digits", "\\ud800"),
    "beyond Unicode": said("digits", "\\U00110000"),
    "a pickle": pickle.dumps(print),
    "JSON": b'{"task": {}}',
    "YAML": b"task: !!python/object/apply:os.system ['id']",
    "an INI file": b"[task\ndata: digits",
    "deep lists": said(SIZES, "sizes = " + "[" * 10**5),
    "deep tables": said(SIZES, "sizes = " + "{a=" * 10**4),
    "deep and closed": said(SIZES, "sizes = " + "[" * 400 + "]" * 400),
    "deep names": b"a." * 5_000 + b"b = 1",
    "a deep header": b"[" + b"a." * 5_000 + b"b]",
    "a huge number": said(SIZES, f"sizes = [{'9' * 5000}]"),
    "a large number": said(SIZES, f"sizes = [{10**30}]"),
    "a hexadecimal bomb": said(SIZES, f"sizes = [0x{'f' * 10**5}]"),
    "NaN": said(SIZES, "sizes = [nan]"),
    "infinity": said(SIZES, "sizes = [inf]"),
    "negative": said(SIZES, "sizes = [-20]"),
    "none": said(SIZES, "sizes = []"),
    "a truth": said(SIZES, "sizes = [true]"),
    "a date": said(SIZES, "sizes = [1979-05-27]"),
    "a text": said(SIZES, 'sizes = "20; drop table studies"'),
    "many": said(SIZES, f"sizes = [{'20, ' * 10**5}]"),
    "a key twice": said(SIZES, f"{SIZES}\n{SIZES}"),
    "a table twice": TEXT.encode() + b"[task]\n",
    "an array of tables": said("[task]", "[[task]]"),
    "a table for a text": said('data = "digits"', 'data = { a = "b" }'),
    "a number for a text": said('data = "digits"', "data = 5"),
    "an unknown table": TEXT.encode() + b"[__class__]\n",
    "an unknown key": TEXT.encode() + b'[search]\n__reduce__ = "os.system"\n',
    "a key to show": TEXT.encode() + b'[search]\n"\\u001b[2J\\n\\u202e" = 1\n',
    "a huge key": TEXT.encode() + b"[search]\n" + b"x" * 10**6 + b" = 1\n",
    "a value to show": TEXT.encode() + b'[search]\nsampler = "\\u001b[2J\\n\\u202e"\n',
    "a huge value": TEXT.encode() + b'[search]\nsampler = "' + b"x" * 10**6 + b'"\n',
    "trials without end": TEXT.encode() + f"[search]\ntrials = {10**18}\n".encode(),
    "memory without end": TEXT.encode() + b"[activations]\nmemory = inf\n",
    "a range upside down": TEXT.encode() + b"[space]\nhead_lr = { low = 1.0, high = 0.1 }\n",
    "a range of infinities": TEXT.encode() + b"[space]\nhead_lr = { low = 0.1, high = inf }\n",
    "a rate beyond floats": TEXT.encode() + f"[space]\nhead_lr = {10**400}\n".encode(),
    "code in the space": TEXT.encode() + b"[space]\nhead_lr = \"__import__('os')\"\n",
    "a code name that is none": said(BACKBONE, "backbone = \"__import__('os')\""),
    "a call": said(BACKBONE, "backbone = \"os:system('id')\""),
    "a shell": said(BACKBONE, 'backbone = "os:system"'),
    "an evaluation": said(BACKBONE, 'backbone = "builtins:eval"'),
    "an end": said(BACKBONE, 'backbone = "sys:exit"'),
    "no such module": said(BACKBONE, 'backbone = "no.such:thing"'),
    "a relative module": said(BACKBONE, 'backbone = "..os:system"'),
    "an option to it": said(BACKBONE, f'{BACKBONE}\noptions = {{ __class__ = "os.system" }}'),
    "a path for a name": said(BACKBONE, 'backbone = "../../etc/passwd"'),
    "a private name": said(BACKBONE, 'backbone = "torchvision/__builtins__"'),
    "a name to show": said(BACKBONE, 'backbone = "\\u001b[2J"'),
    "a long name": said(BACKBONE, f'backbone = "{"x" * 10**5}"'),
    "patterns that blow up": said(BACKBONE, f'{BACKBONE}\ngroups = ["{"[" * 1000}"]'),
    "an endless picture": said(BACKBONE, f"{BACKBONE}\nimage_size = {10**20}"),
    "weights to show": said('"none"', '"\\u001b[2J.pt"'),
    "weights of a pipe": said('"none"', '"pipe.pt"'),
    "weights without end": said('"none"', '"/dev/zero"'),
    "weights from the web": said('"none"', '"https://127.0.0.1:1/x.pt"'),
    "data that are none": said('data = "digits"', 'data = "os:system"'),
    "data from a pipe": said('data = "digits"', 'data = "pipe.csv"'),
}


@pytest.mark.parametrize("attack", FILES)
def test_a_study_file_that_is_none_is_one_line(sandbox, frostline, attack):
    for pipe in ("pipe.pt", "pipe.csv"):
        os.mkfifo(pipe)
    (sandbox.work / "x.toml").write_bytes(FILES[attack])
    sandbox.arm()
    assert frostline("groups", "x.toml").code == 2 or attack.startswith("weights")
    assert frostline("run", "x.toml", "--dry-run").code == 2
    sandbox.check()


def test_the_study_file_itself_is_one(sandbox, frostline):
    (sandbox.work / "x.toml").write_text(TEXT)
    assert "4 layer groups" in frostline("groups", "x.toml").out


@pytest.mark.parametrize("path", ["pipe.toml", "folder.toml", "/dev/zero", "loop.toml", "x" * 600 + "/x.toml"])
def test_nor_is_a_path_that_is_no_file(sandbox, frostline, path):
    os.mkfifo("pipe.toml")
    os.mkdir("folder.toml")
    os.symlink("loop.toml", "loop.toml")
    sandbox.arm()
    for command in (["run"], ["run", "--dry-run"], ["groups"]):
        assert frostline(*command, path).code == 2
    sandbox.check()
