"""Maps in blocks of 32 channels, and what their values become, in numpy."""

import math

import jittor as jt
import numpy as np

from jvan.inference.fused.plan import BLOCK


def normal(*shape):
    return np.random.RandomState(sum(shape)).standard_normal(shape).astype(np.float32)


def var(array):
    return jt.array(np.ascontiguousarray(array, dtype=np.float32))


def in_blocks(rows):
    """(pixels, C) -> (C / 32, pixels, 32)"""
    return np.moveaxis(rows.reshape(len(rows), -1, BLOCK), 1, 0)


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def nearest_bfloat16(array):
    """By looking at both neighbours, the even one where they are equally near."""
    bits = array.view(np.uint32) & 0xFFFF0000
    low, high = bits.view(np.float32), (bits + 0x10000).view(np.float32)
    below, above = np.abs(array - low), np.abs(high - array)
    even = bits >> 16 & 1 == 0
    return np.where((below < above) | (below == above) & even, low, high).astype(np.float64)
