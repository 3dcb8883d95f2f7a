"""Jittor's `.pkl`: a protocol-4 pickle of a dict of numpy arrays, then its SHA-1, then eight letters.

`model.load(path)` of a Jittor script reads it (jittor/__init__.py, `safepickle`).
"""

from __future__ import annotations

import hashlib

import numpy as np

from .jittor_pkl import MARK
from .pickle_writer import PickleWriter


def write_jittor(file, tensors: dict[str, np.ndarray]) -> None:
    """Write `tensors` to a file, array by array, with no second copy of them in memory."""
    hashed = _Hashed(file)
    out = PickleWriter(hashed, protocol=4)
    out.op(b"}", b"(")
    for name, array in tensors.items():
        out.text(name)
        _array(out, array)
    out.op(b"u")
    out.stop()
    file.write(hashed.digest() + MARK)


def _array(out: PickleWriter, array: np.ndarray) -> None:
    """numpy's own recipe: an empty ndarray, then its state (version, shape, dtype, Fortran order, bytes).

    The module is called `numpy.core` as numpy 1 writes it: Jittor needs numpy 1, and numpy 2 still knows the name.
    """
    out.name("numpy.core.multiarray", "_reconstruct")
    out.name("numpy", "ndarray")
    out.integers((0,))
    out.op(b"C", b"\x01", b"b", b"\x87", b"R")
    out.op(b"(", b"K\x01")
    out.integers(array.shape)
    _dtype(out, array.dtype.newbyteorder("<"))
    out.op(b"\x89")
    out.array_bytes(array.astype(array.dtype.newbyteorder("<"), copy=False))
    out.op(b"t", b"b")


def _dtype(out: PickleWriter, dtype: np.dtype) -> None:
    key = ("dtype", dtype.str)
    if out.recall(key):
        return
    out.name("numpy", "dtype")
    out.text(dtype.str[1:])
    out.op(b"\x89", b"\x88", b"\x87", b"R")
    out.op(b"(", b"K\x03")
    out.text("<")
    out.op(b"N", b"N", b"N")
    out.integer(-1)
    out.integer(-1)
    out.op(b"K\x00", b"t", b"b")
    out.remember(key)


class _Hashed:
    """A file that hashes what is written to it."""

    def __init__(self, file):
        self._file, self._hash = file, hashlib.sha1()  # what Jittor's format has; no protection

    def write(self, data) -> None:
        self._hash.update(data)
        self._file.write(data)

    def digest(self) -> bytes:
        return self._hash.digest()
