"""Data that are none: refused in one line, or skipped by their names."""

import io
import os
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from search.data.images import ImageFormat, prepare
from search.data.load import load_data
from search.errors import FrostlineError
from tests.search.hostile.archives import ARCHIVES, array, zipped


def table(text):
    return lambda s: text if isinstance(text, bytes) else text.encode()


TEXT = {"text": "text"}
SERIES = {"series": "s"}
DATA = {
    **{f"x.npz, {name}": ("x.npz", make, {}) for name, make in ARCHIVES.items()},
    "objects for labels": (
        "x.npz",
        lambda s: zipped(**{"x.npy": array(np.ones((9, 2))), "y.npy": array(np.array([s.payload] * 9, dtype=object))}),
        {},
    ),
    "a table of nothing": ("x.csv", table(""), TEXT),
    "a table of NUL": ("x.csv", table("\0\0\n\0\0"), TEXT),
    "not UTF-8": ("x.csv", table(b"text,label\n\xff\xfe,1"), TEXT),
    "UTF-16": ("x.csv", table("text,label\na,1".encode("utf-16")), TEXT),
    "columns to show": ("x.csv", table("\x1b[2J\u202e,b\n1,2"), TEXT),
    "two columns": ("x.csv", table("text,text\n1,2"), TEXT),
    "an open quote": ("x.csv", table('text,label\n"a,1\n' + "b,2\n" * 9), TEXT),
    "ragged": ("x.csv", table("text,label\na,1,2,3"), TEXT),
    "a huge cell": ("x.csv", table("text,label\n" + "x" * 10**7), TEXT),
    "formulas for numbers": ("x.csv", table("s,label,a\n1,x,=1+1\n2,y,=cmd()"), SERIES),
    "NaN": ("x.csv", table("s,label,a\n1,x,nan\n2,y,1"), SERIES),
    "1e999": ("x.csv", table("s,label,a\n1,x,1e999\n2,y,1"), SERIES),
    "a pickle for a table": ("x.csv", lambda s: pickle.dumps(s.payload), TEXT),
    "one .ts line": ("x.ts", table("@data\n" + "1," * 10**5), {}),
    "code in .ts": ("x.ts", table("@data\n__import__('os'):1\n2:2"), {}),
    "control characters in .ts": ("x.ts", table("@data\n\x1b[2J:1\n2:2"), {}),
    "a pickle for .ts": ("x.ts", lambda s: pickle.dumps(s.payload), {}),
}


def refuses_data(name, options=None):
    with pytest.raises(FrostlineError) as caught:
        load_data(name, options or {}, where="[task] data")
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 3000
    return str(caught.value)


@pytest.mark.parametrize("attack", DATA)
def test_data_that_are_none_are_one_line(sandbox, attack):
    name, make, options = DATA[attack]
    (sandbox.work / name).write_bytes(make(sandbox))
    sandbox.arm()
    refuses_data(name, options)
    sandbox.check()


@pytest.mark.parametrize(
    "name",
    ["pipe.npz", "pipe.csv", "pipe.ts", "folder.npz", "loop.csv", "/dev/zero", "/dev/stdin", "", "\0", "x" * 600,
     "../" * 2000, "\x1b[2J", "\udcff.csv", "torchvision/__init__", "torchvision/../x", "torchvision/os", "timm/x",
     "https://127.0.0.1:1/x.npz", "file:///etc/passwd"],
)  # fmt: skip
def test_a_path_to_data_that_is_none_is_one_line(sandbox, name):
    for pipe in ("pipe.npz", "pipe.csv", "pipe.ts"):
        os.mkfifo(pipe)
    os.mkdir("folder.npz")
    os.symlink("loop.csv", "loop.csv")
    sandbox.arm()
    refuses_data(name)
    sandbox.check()


@pytest.mark.parametrize("test", ["pipe.csv", "pipe.npz", "/dev/zero", "x" * 600, "\0", ".", "\udcff"])
@pytest.mark.parametrize("name", ["x.csv", "x.npz"])
def test_nor_is_one_to_test_data(sandbox, name, test):
    os.mkfifo("pipe.csv")
    os.mkfifo("pipe.npz")
    Path("x.csv").write_text("text,label\n" + "a,1\nb,2\n" * 9)
    np.savez("x.npz", x=np.ones((20, 2)), y=np.arange(20) % 2)
    sandbox.arm()
    refuses_data(name, {"test": test, **(TEXT if name == "x.csv" else {})})
    sandbox.check()


@pytest.mark.parametrize(
    "code",
    ["os:system", "builtins:eval", "builtins:exec", "sys:exit",
     "subprocess:Popen", "shutil:rmtree", "pickle:loads", "os:environ", "os:getcwd", "__import__('os')",
     "os:system('id')", "os.system", "os;id:x", "..os:system",
     "os:", ":system", "os:__class__.__mro__", "a b:c", "\x1b[2J:x", "x:y" * 300,
     "nosuch:thing", "this:nosuch"],
)  # fmt: skip
def test_code_that_gives_no_data_is_one_line(sandbox, code):
    # A study file may name any importable code, in its user's own words. It is called with the options, which are none.
    sandbox.arm()
    refuses_data(code)
    sandbox.check()


def picture(side=8):
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.zeros((side, side, 3), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def png(width, height):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


PICTURES = {
    "empty": b"",
    "text": b"a picture",
    "a bomb": png(10**6, 10**6),
    "a bomb in bounds": png(9000, 9000),
    "endless": png(2**31 - 1, 2**31 - 1),
    "no pixels": png(0, 0),
    "cut short": picture()[:40],
    "a pickle": pickle.dumps(print),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) (w) file\n",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "a GIF of no frames": b"GIF89a\x08\x00\x08\x00\x80\x00\x00",
}


@pytest.mark.parametrize("attack", [*PICTURES, "pipe", "loop", "link"])
def test_a_picture_that_is_none_is_skipped_by_its_name(sandbox, attack):
    for name in ("cats", "dogs"):
        folder = sandbox.work / "images" / name
        folder.mkdir(parents=True)
        for number in range(100):
            (folder / f"{number}.png").write_bytes(picture())
    bad = sandbox.work / "images" / "cats" / "bad\x1b[2J\n.png"
    if attack in PICTURES:
        bad.write_bytes(PICTURES[attack])
    else:
        os.mkfifo(bad) if attack == "pipe" else bad.symlink_to(bad.name if attack == "loop" else "/dev/zero")
    sandbox.arm()
    data = load_data("images", {"test": 0.0}, where="[task] data")
    shape = ImageFormat(size=8, resize=8, mean=(0.0,), std=(1.0,))
    examples, notes = prepare(data.pool, shape, cache=sandbox.work / "cache", where="[task] data")
    assert len(examples) == 200
    assert all("\x1b" not in note and "\n" not in note for note in notes)
    assert len(notes) == (attack not in ("pipe", "link"))
    sandbox.check(written=True)


@pytest.mark.parametrize(
    "attack", ["objects", "another shape", "no array", "pipe", "bad JSON", "deep JSON", "beyond", "link"]
)
def test_pictures_in_the_cache_that_are_none_are_decoded_again(sandbox, attack):
    for name in ("cats", "dogs"):
        (sandbox.work / "images" / name).mkdir(parents=True)
        for number in range(3):
            (sandbox.work / "images" / name / f"{number}.png").write_bytes(picture())
    data = load_data("images", {"test": 0.0}, where="[task] data")
    shape = ImageFormat(size=8, resize=8, mean=(0.0,), std=(1.0,))
    first, _ = prepare(data.pool, shape, cache=sandbox.work / "cache", where="[task] data")
    (pixels,) = (sandbox.work / "cache").glob("*.npy")
    contents = {
        "objects": (pixels, array(np.array([sandbox.payload], dtype=object))),
        "another shape": (pixels, array(np.zeros(3))),
        "no array": (pixels, b"\x93NUMPY"),
        "bad JSON": (pixels.with_suffix(".json"), b"{"),
        "deep JSON": (pixels.with_suffix(".json"), b"[" * 10**5),
        "beyond": (pixels.with_suffix(".json"), b'{"1000": "x"}'),
    }
    if attack in contents:
        contents[attack][0].write_bytes(contents[attack][1])
    else:
        pixels.unlink()
        os.mkfifo(pixels) if attack == "pipe" else pixels.symlink_to(sandbox.outside / "x.npy")
    sandbox.arm()
    again, notes = prepare(data.pool, shape, cache=sandbox.work / "cache", where="[task] data")
    assert not again.inputs.take(torch.arange(len(first)), None).any(), "they are black"
    assert notes == []
    sandbox.check(written=True)
