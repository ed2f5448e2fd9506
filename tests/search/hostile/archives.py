"""Zip files, and arrays in them, that do not keep what they promise."""

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


def scores(content):
    return zipped(**{"example_scores.npy": content})


def header(descr, shape):
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


DEEP_HEADER = b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535


def bomb():
    """Two gigabytes of zeros in two megabytes."""
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = packed.compress(bytes(10**7)) + packed.flush(zlib.Z_FULL_FLUSH)  # may follow itself any number of times
    content = zeros * 200 + packed.flush()
    name, size = b"example_scores.npy", 200 * 10**7
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, 0, len(content), size, len(name), 0) + name
    central = struct.pack(
        "<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0, 0, len(content), size, len(name), 0, 0, 0, 0, 0, 0
    )
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(central) + len(name), len(local) + len(content), 0)
    return local + content + central + name + end


ARCHIVES = {
    "objects": lambda s: scores(array(np.array([s.payload], dtype=object))),
    "a pickle within": lambda s: scores(pickle.dumps(s.payload)),
    "no array": lambda s: zipped(example_scores="text"),
    "paths": lambda s: zipped(**{"../../outside/x.npy": array(np.ones(2)), "/example_scores.npy": array(np.ones(2))}),
    "cut short": lambda s: scores(array(np.ones(600)))[:-40],
    "declared too large": lambda s: scores(header("<f8", (10**12,))),
    "a deep header": lambda s: scores(DEEP_HEADER),
    "a bomb": lambda s: bomb(),
}
