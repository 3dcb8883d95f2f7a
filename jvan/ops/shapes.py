"""Shapes that several operators need. No Jittor."""

from __future__ import annotations


def convolved(extents, size: int, stride: int, padding: int) -> tuple[int, ...]:
    """Height and width of what a convolution with a K×K kernel makes of maps of these."""
    return tuple((extent + 2 * padding - size) // stride + 1 for extent in extents)


def as_rows(x):
    """(…, C) -> (rows, C)"""
    return x.reshape((-1, x.shape[-1]))
