"""Broken study files: read, checked and refused in one line, before anything they name is opened."""

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
BACKBONE = 'backbone = "small_cnn"'
SIZES = "sizes = [20, 40]"


def with_(change, to):
    """Return the study file with a part of it replaced."""
    assert change in TEXT
    return TEXT.replace(change, to).encode()


def and_(table, line):
    """Return the study file with one more table."""
    return f"{TEXT}[{table}]\n{line}\n".encode()


FILES = {
    "NUL": b"\0" * 1000,
    "Latin-1": with_("digits", "d").replace(b'"d"', b'"\xe9"'),
    "a surrogate": with_("digits", "\\ud800"),
    "a pickle": pickle.dumps(print),
    "deep lists": with_(SIZES, "sizes = " + "[" * 10**5),
    "deep names": b"a." * 5_000 + b"b = 1",
    "a huge number": with_(SIZES, f"sizes = [{'9' * 5000}]"),
    "NaN": with_(SIZES, "sizes = [nan]"),
    "many": with_(SIZES, f"sizes = [{'20, ' * 10**5}]"),
    "a key to show": and_("search", '"\\u001b[2J\\n\\u202e" = 1'),
    "a value to show": and_("search", 'sampler = "\\u001b[2J\\n\\u202e' + "x" * 10**6 + '"'),
    "trials without end": and_("search", f"trials = {10**18}"),
    "a rate beyond floats": and_("space", f"head_lr = {10**400}"),
    "an end": with_(BACKBONE, 'backbone = "sys:exit"'),
    "a relative module": with_(BACKBONE, 'backbone = "..os:system"'),
    "a private name": with_(BACKBONE, 'backbone = "torchvision/__builtins__"'),
    "a name to show": with_(BACKBONE, f'backbone = "\\u001b[2J{"x" * 10**5}"'),
    "patterns that blow up": with_(BACKBONE, f'{BACKBONE}\ngroups = ["{"[" * 1000}"]'),
    "an endless picture": with_(BACKBONE, f"{BACKBONE}\nimage_size = {10**20}"),
    "weights of a pipe": with_('"none"', '"pipe.pt"'),
    "weights from the web": with_('"none"', '"https://127.0.0.1:1/x.pt"'),
    "data from a pipe": with_('data = "digits"', 'data = "pipe.csv"'),
}


@pytest.mark.parametrize("attack", FILES)
def test_broken_study_file_is_refused(sandbox, frostline, attack):
    (sandbox.work / "x.toml").write_bytes(FILES[attack])
    sandbox.place("")
    assert frostline("groups", "x.toml").code == 2 or attack.startswith("weights")
    assert frostline("run", "x.toml", "--dry-run").code == 2
    sandbox.check()


def test_unchanged_study_file_is_read(sandbox, frostline):
    (sandbox.work / "x.toml").write_text(TEXT)
    assert "4 layer groups" in frostline("groups", "x.toml").out


@pytest.mark.parametrize("path", ["pipe.toml", "/dev/zero", "loop.toml", "x" * 600 + "/x.toml"])
def test_path_to_no_study_file_is_refused(sandbox, frostline, path):
    sandbox.place(path)
    for command in (["run"], ["run", "--dry-run"], ["groups"]):
        assert frostline(*command, path).code == 2
    sandbox.check()
