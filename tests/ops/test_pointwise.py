"""The 1×1 layer's kernel against plain Jittor and numpy in float64."""

import numpy as np
import pytest

from jvan.ops.pointwise import pointwise_fused, pointwise_ref
from tests import float64

from .check import at_two_widths, check_op, vectors_of

# N, H, W, C, O: one pixel, fewer rows than a tile, several strips, widths that fill no vector, a power of two apart.
SHAPES = [(1, 1, 1, 1, 1), (2, 3, 1, 5, 7), (1, 13, 11, 33, 17), (2, 17, 19, 16, 130), (1, 29, 23, 128, 3)]


@at_two_widths
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel(shape, vector_bytes):
    *pixels, in_chans, out_chans = shape
    rng = np.random.RandomState(0)
    shapes = [(*pixels, in_chans), (out_chans, in_chans, 1, 1), (out_chans,)]
    with vectors_of(vector_bytes):
        check_op(
            pointwise_fused,
            pointwise_ref,
            float64.pointwise,
            [rng.standard_normal(s).astype(np.float32) for s in shapes],
        )
