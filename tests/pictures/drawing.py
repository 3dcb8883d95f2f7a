"""Pictures that the tests draw, without the code under test."""

import struct
import zlib

import numpy as np


def colours(height=23, width=31, seed=0):
    """uint8 (height, width, 3), no two neighbours alike."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height=60, width=80):
    """uint8 (height, width, 3) that survives lossy coding; no symmetry maps it to itself."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x / (width - 1), 255 * y / (height - 1), 120 + 0 * x], axis=-1).astype(np.uint8)


def png(array, claim=None):
    """PNG bytes of a uint8 or uint16 array, grey or RGB; `claim` is a (width, height) to lie with."""
    height, width = array.shape[:2]
    kind = 2 if array.ndim == 3 else 0
    depth = 8 * array.dtype.itemsize
    rows = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder(">"))
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", *(claim or (width, height)), depth, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
