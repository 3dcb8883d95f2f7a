"""The few pickle opcodes that a state dict needs, written by hand: no PyTorch, no copies held, the same bytes every time."""

from __future__ import annotations

import struct

import numpy as np


class PickleWriter:
    """Builds a pickle on `file` from left to right; strings and globals are written once and then referred to.

    Opcodes as in the standard library's `pickletools`, none newer than `protocol` (2 for PyTorch, 4 for Jittor).
    """

    def __init__(self, file, protocol: int):
        self._file = file
        self._memo: dict[object, int] = {}
        self._file.write(b"\x80" + bytes([protocol]))

    def op(self, *codes: bytes) -> None:
        """Opcodes that take no argument, or with their argument already in place."""
        for code in codes:
            self._file.write(code)

    def text(self, text: str) -> None:
        data = text.encode("utf-8")
        self._once(text, b"X" + struct.pack("<I", len(data)) + data)

    def name(self, module: str, name: str) -> None:
        """A global, which the reader looks up in its allow-list."""
        self._once((module, name), f"c{module}\n{name}\n".encode("ascii"))

    def integer(self, value: int) -> None:
        if 0 <= value < 256:
            self.op(b"K", bytes([value]))
        elif -(2**31) <= value < 2**31:
            self.op(b"J", struct.pack("<i", value))
        else:
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            self.op(b"\x8a", bytes([len(data)]), data)

    def integers(self, values) -> None:
        """A tuple of integers."""
        self.op(b"(")
        for value in values:
            self.integer(value)
        self.op(b"t")

    def array_bytes(self, array: np.ndarray) -> None:
        """A contiguous array's bytes as a bytes object (protocol 4)."""
        if array.nbytes < 256:
            self.op(b"C", bytes([array.nbytes]))
        elif array.nbytes < 2**32:
            self.op(b"B", struct.pack("<I", array.nbytes))
        else:
            self.op(b"\x8e", struct.pack("<Q", array.nbytes))
        self.op(raw_bytes(array))

    def remember(self, key: object) -> None:
        """Keep what lies on top of the stack under `key`."""
        self._memo[key] = number = len(self._memo)
        self.op(b"q" + bytes([number]) if number < 256 else b"r" + struct.pack("<I", number))

    def recall(self, key: object) -> bool:
        """Put what `key` stands for on the stack, if there is such a thing."""
        number = self._memo.get(key)
        if number is None:
            return False
        self.op(b"h" + bytes([number]) if number < 256 else b"j" + struct.pack("<I", number))
        return True

    def stop(self) -> None:
        self.op(b".")

    def _once(self, key: object, code: bytes) -> None:
        if not self.recall(key):
            self.op(code)
            self.remember(key)


def raw_bytes(array: np.ndarray) -> memoryview:
    """A contiguous array's bytes without a copy; works for 0-d and empty arrays too."""
    return memoryview(array.reshape(-1).view(np.uint8))
