"""A million names in two arrays: cheap to keep, and shared with other processes without a copy."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from .._text import in_nfc


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
    """The class that a folder of this name holds, as weights name it: in NFC; bytes that are no UTF-8 stay apart, as half characters."""
    return in_nfc(os.fsencode(name).decode("utf-8", "surrogateescape"))


def class_name_of_0_1(name: str) -> str:
    """The same as 0.1.0 stored it: in the folder's own form, with � for bytes that are no UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")


def as_replaced(name: str) -> str:
    """What `class_name` gave, with � for its bytes that are no UTF-8, as labels of 0.1.0 have them."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def means(label: str, name: str) -> bool:
    """Whether a label of a weights file, perhaps of 0.1.0, is the class that `class_name` gave."""
    label = in_nfc(label)
    return label == name or ("\ufffd" in label and label == as_replaced(name))
