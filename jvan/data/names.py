"""A million names in two arrays: cheap to keep, and shared with other processes without a copy."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np


class Names(Sequence):
    """An unchangeable list of strings, any bytes that a file name may hold."""

    def __init__(self, names):
        encoded = [os.fsencode(name) for name in names]
        self._text = np.frombuffer(b"".join(encoded), np.uint8)
        self._ends = np.cumsum([len(each) for each in encoded], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        start = int(self._ends[index - 1]) if index else 0
        return os.fsdecode(self._text[start : int(self._ends[index])].tobytes())


def class_name(name: str) -> str:
    """The class that a folder of this name holds, as weights name it; bytes that are no text become �."""
    return os.fsencode(name).decode("utf-8", "replace")
