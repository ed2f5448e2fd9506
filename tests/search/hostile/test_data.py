"""Broken data: refused in one line, or skipped by name."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from search.data.images import ImageFormat
from search.data.load import load_data
from search.errors import FrostlineError
from tests.search.data.pictures import prepare_one
from tests.search.hostile.archives import ARCHIVES, array, zipped
from tests.search.hostile.sandbox import one_line

TEXT = {"text": "text"}
SERIES = {"series": "s"}
TABLES = {
    "not UTF-8": ("x.csv", b"text,label\n\xff\xfe,1", TEXT),
    "columns to show": ("x.csv", "\x1b[2J\u202e,b\n1,2".encode(), TEXT),
    "a huge cell": ("x.csv", b"text,label\n" + b"x" * 10**6, TEXT),
    "formulas for numbers": ("x.csv", b"s,label,a\n1,x,=1+1\n2,y,=cmd()", SERIES),
    "1e999": ("x.csv", b"s,label,a\n1,x,1e999\n2,y,1", SERIES),
    "code in .ts": ("x.ts", b"@data\n\x1b[2J__import__('os'):1\n2:2", {}),
}


def refuses_data(name, options=None):
    with pytest.raises(FrostlineError) as caught:
        load_data(name, options or {}, where="[task] data")
    one_line(caught.value)


@pytest.mark.parametrize("attack", ["objects", "cut short", "a bomb", "labels of objects"])
def test_broken_arrays_are_refused(sandbox, attack):
    """The same reader as that of predictions files, which `test_folder.py` gives all of `ARCHIVES`."""
    labels = np.array([sandbox.payload] * 9, dtype=object)
    made = {"labels of objects": lambda s: zipped(**{"x.npy": array(np.ones((9, 2))), "y.npy": array(labels)})}
    (sandbox.work / "x.npz").write_bytes((ARCHIVES | made)[attack](sandbox))
    sandbox.arm()
    refuses_data("x.npz")
    sandbox.check()


@pytest.mark.parametrize("attack", TABLES)
def test_broken_tables_are_refused(sandbox, attack):
    name, content, options = TABLES[attack]
    (sandbox.work / name).write_bytes(content)
    sandbox.arm()
    refuses_data(name, options)
    sandbox.check()


@pytest.mark.parametrize(
    "name",
    ["pipe.npz", "pipe.csv", "loop.csv", "\0", "x" * 600, "\x1b[2J", "torchvision/os", "https://127.0.0.1:1/x.npz"],
)  # fmt: skip
def test_path_to_no_data_is_refused(sandbox, name):
    sandbox.place(name)
    refuses_data(name)
    sandbox.check()


@pytest.mark.parametrize("test", ["pipe.csv", "\udcff"])
@pytest.mark.parametrize("name", ["x.csv", "x.npz"])
def test_path_to_no_test_data_is_refused(sandbox, name, test):
    Path("x.csv").write_text("text,label\n" + "a,1\nb,2\n" * 9)
    np.savez("x.npz", x=np.ones((20, 2)), y=np.arange(20) % 2)
    sandbox.place(test)
    refuses_data(name, {"test": test, **(TEXT if name == "x.csv" else {})})
    sandbox.check()


@pytest.mark.parametrize("code", ["os:system", "sys:exit", "os:environ", "..os:system", "\x1b[2J:x"])
def test_code_that_gives_no_data_is_refused(sandbox, code):
    """A study file may name any importable code, as its user's own; it is called with the options, here none."""
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


SHAPE = ImageFormat(size=8, resize=8, mean=(0.0,), std=(1.0,))
PICTURES = {
    "a bomb": png(10**6, 10**6),
    "a bomb in bounds": png(9000, 9000),
    "cut short": picture()[:40],
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) (w) file\n",
}


def pictures(folder, count):
    for name in ("cats", "dogs"):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(count):
            (folder / "images" / name / f"{number}.png").write_bytes(picture())


def prepared(folder):
    pool = load_data("images", {"test": 0.0}, where="[task] data").pool
    return prepare_one(pool, SHAPE, cache=folder / "cache")


@pytest.mark.parametrize("attack", [*PICTURES, "pipe", "loop"])
def test_broken_picture_is_skipped_by_name(sandbox, attack):
    pictures(sandbox.work, 100)
    bad = sandbox.work / "images" / "cats" / "bad\x1b[2J\n.png"
    if attack in PICTURES:
        bad.write_bytes(PICTURES[attack])
    else:
        os.mkfifo(bad) if attack == "pipe" else bad.symlink_to(bad.name)
    sandbox.arm()
    examples, notes = prepared(sandbox.work)
    assert len(examples) == 200
    assert all("\x1b" not in note and "\n" not in note for note in notes)
    assert len(notes) == (attack != "pipe")
    sandbox.check(written=True)


@pytest.mark.parametrize("attack", ["objects", "another shape", "pipe", "deep JSON", "beyond", "link"])
def test_broken_pictures_in_the_cache_are_decoded_again(sandbox, attack):
    pictures(sandbox.work, 3)
    first, _ = prepared(sandbox.work)
    (pixels,) = (sandbox.work / "cache").glob("*.npy")
    contents = {
        "objects": (pixels, array(np.array([sandbox.payload], dtype=object))),
        "another shape": (pixels, array(np.zeros(3))),
        "deep JSON": (pixels.with_suffix(".json"), b"[" * 10**5),
        "beyond": (pixels.with_suffix(".json"), b'{"1000": "x"}'),
    }
    if attack in contents:
        contents[attack][0].write_bytes(contents[attack][1])
    else:
        pixels.unlink()
        os.mkfifo(pixels) if attack == "pipe" else pixels.symlink_to(sandbox.outside / "x.npy")
    sandbox.arm()
    again, notes = prepared(sandbox.work)
    assert not again.inputs.take(torch.arange(len(first)), None).any(), "they are black"
    assert notes == []
    sandbox.check(written=True)
