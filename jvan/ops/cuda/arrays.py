"""Numbers as the kernels store them: numpy has no bfloat16, so that its bits stand in for it as uint16."""

from __future__ import annotations

import numpy as np

ARRAY_TYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}


def stored(values, dtype: str) -> np.ndarray:
    """Values as a contiguous array of a dtype, rounded to the nearest."""
    if dtype != "bfloat16":
        with np.errstate(over="ignore"):  # too large ones become infinite, as on a GPU
            return np.ascontiguousarray(values).astype(dtype)
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def exact(array) -> np.ndarray:
    """What an array of `stored` holds, in float64."""
    values = (array.astype(np.uint32) << 16).view(np.float32) if array.dtype == np.uint16 else array
    return values.astype(np.float64)
