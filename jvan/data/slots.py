"""Where a batch's arrays lie in one piece of memory, which the loader's processes share."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

MOST_MEMORY = 1 << 30  # of batches that wait
AHEAD = 4
ALIGN = 64  # bytes


class Field(NamedTuple):
    """One sample's part of an array: its shape without the batch's axis, and its dtype."""

    shape: tuple[int, ...]
    dtype: str


PICTURES, TARGETS = "pictures", "targets"


def layout_of(transform) -> dict[str, Field]:
    """The arrays of a batch that `transform` makes: its own `layout`, or pictures of its `shape` and a label each."""
    layout = getattr(transform, "layout", None)
    return layout or {PICTURES: Field(tuple(transform.shape), "float32"), TARGETS: Field((), "int32")}


def batch_bytes(layout: dict[str, Field], rows: int) -> int:
    """Bytes that a batch of `rows` takes, each array at a multiple of ALIGN."""
    return sum(_size(field, rows) for field in layout.values())


def slots_for(layout: dict[str, Field], rows: int) -> tuple[int, int]:
    """(how many batches are made ahead, bytes of one)."""
    bytes_each = batch_bytes(layout, rows)
    return max(2, min(AHEAD, MOST_MEMORY // bytes_each)), bytes_each


def arrays_in(buffer, layout: dict[str, Field], rows: int, slot: int = 0) -> dict[str, np.ndarray]:
    """The arrays (rows, …) of batch number `slot` as views of `buffer`."""
    at, found = slot * batch_bytes(layout, rows), {}
    for name, field in layout.items():
        count = rows * math.prod(field.shape)
        found[name] = np.frombuffer(buffer, field.dtype, count, at).reshape(rows, *field.shape)
        at += _size(field, rows)
    return found


def _size(field: Field, rows: int) -> int:
    size = rows * math.prod(field.shape) * np.dtype(field.dtype).itemsize
    return -(-size // ALIGN) * ALIGN
