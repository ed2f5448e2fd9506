"""Image files of 16 and 32 bits a channel, which Pillow reads but can't write."""

import struct
import zlib

import numpy as np

COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> a PNG's colour type
SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3}


def png(values):
    """Return a PNG file of uint16 (H, W, C)."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, channels = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, COLOURS[channels], 0, 0, 0)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def ppm(values, highest):
    """Return a binary PGM or PPM file of uint16 (H, W, C)."""
    height, width, channels = values.shape
    return f"P{5 if channels == 1 else 6} {width} {height} {highest}\n".encode() + values.astype(">u2").tobytes()


def tiff(values, *, order="<", packed=False, planes=1):
    """Return a TIFF file of (H, W, C): of bytes in that order, deflated or not."""
    height, width, channels = values.shape
    bits = 8 * values.dtype.itemsize
    content = np.ascontiguousarray(values.astype(values.dtype.newbyteorder(order))).tobytes()
    content = zlib.compress(content) if packed else content
    photometric = 1 if channels == 1 else 2
    tags = [
        (256, 3, [width]), (257, 3, [height]), (258, 3, [bits] * channels), (259, 3, [8 if packed else 1]),
        (262, 3, [photometric]), (273, 4, [0]), (277, 3, [channels]), (278, 3, [height]), (279, 4, [len(content)]),
        (284, 3, [planes]), (339, 3, [SAMPLE_FORMATS[values.dtype.kind]] * channels),
    ]  # fmt: skip
    behind = 8 + 2 + 12 * len(tags) + 4
    extra, entries = b"", b""
    starts = behind + sum(8 for _, _, numbers in tags if len(numbers) > 2)
    for tag, kind, numbers in tags:
        code = {3: "H", 4: "I"}[kind]
        packed_numbers = struct.pack(f"{order}{len(numbers)}{code}", *([starts] if tag == 273 else numbers))
        if len(packed_numbers) > 4:
            place = behind + len(extra)
            extra += packed_numbers.ljust(8, b"\0")
            packed_numbers = struct.pack(f"{order}I", place)
        entries += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + packed_numbers.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return head + struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", 0) + extra + content
