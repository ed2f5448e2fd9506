"""Zip files, and arrays in them, that are not what they say."""

import io
import pickle
import struct
import zipfile
import zlib

import numpy as np


def zipped(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def array(content):
    stream = io.BytesIO()
    np.save(stream, content, allow_pickle=True)
    return stream.getvalue()


def header(descr, shape):
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def bomb():
    """Two gigabytes of zeros in two megabytes."""
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = packed.compress(bytes(10**7)) + packed.flush(zlib.Z_FULL_FLUSH)  # as often as one likes, after one another
    content = zeros * 200 + packed.flush()
    name, size = b"example_scores.npy", 200 * 10**7
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, 0, len(content), size, len(name), 0) + name
    central = struct.pack(
        "<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0, 0, len(content), size, len(name), 0, 0, 0, 0, 0, 0
    )
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(central) + len(name), len(local) + len(content), 0)
    return local + content + central + name + end


ARCHIVES = {
    "empty": lambda s: b"",
    "four bytes": lambda s: b"PK\3\4",
    "text": lambda s: b"something else altogether",
    "a pickle": lambda s: pickle.dumps(s.payload),
    "one array": lambda s: array(np.ones(60)),
    "one array of objects": lambda s: array(np.array([s.payload], dtype=object)),
    "objects": lambda s: zipped(**{"example_scores.npy": array(np.array([s.payload], dtype=object))}),
    "a pickle within": lambda s: zipped(**{"example_scores.npy": pickle.dumps(s.payload)}),
    "no array": lambda s: zipped(example_scores="text"),
    "paths": lambda s: zipped(**{"../../outside/x.npy": array(np.ones(2)), "/example_scores.npy": array(np.ones(2))}),
    "cut short": lambda s: zipped(**{"example_scores.npy": array(np.ones(600))})[:-40],
    "half an array": lambda s: zipped(**{"example_scores.npy": array(np.ones(600))[:900]}),
    "declared too large": lambda s: zipped(**{"example_scores.npy": header("<f8", (10**12,))}),
    "declared negative": lambda s: zipped(**{"example_scores.npy": header("<f8", (-5,))}),
    "declared in code": lambda s: zipped(**{"example_scores.npy": header("__import__('os')", (5,))}),
    "a header of code": lambda s: zipped(
        **{"example_scores.npy": b"\x93NUMPY\x01\x00\x20\x00__import__('os').mkdir('x')     \n"}
    ),
    "a deep header": lambda s: zipped(**{"example_scores.npy": b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535}),
    "a bomb": lambda s: bomb(),
}
