"""Convolutions against numpy in float64: forward and every gradient, odd and prime shapes."""

import numpy as np
import pytest

from jvan.ops import conv as ops
from tests import float64

from .check import at_two_widths, check_op, vectors_of

# N, H, W, C. The small ones come first: Jittor compiles for the first shape and reuses what it chose.
SHAPES = [(1, 1, 1, 5), (1, 5, 5, 8), (2, 7, 11, 3), (1, 13, 5, 8), (3, 4, 4, 17)]


@at_two_widths
@pytest.mark.parametrize("size, stride", [(7, 4), (7, 2), (3, 2), (3, 1), (4, 3), (1, 2)])
def test_conv_kernels(size, stride, vector_bytes):
    rng = np.random.RandomState(0)
    with vectors_of(vector_bytes):
        for shape in [*SHAPES, (1, 37, 29, 3)]:
            for padding in (0, size // 2):
                if min(shape[1:3]) + 2 * padding < size:
                    continue
                shapes = [shape, (33, shape[-1], size, size), (33,)]
                check_op(
                    lambda x, w, b, p=padding: ops.conv_fused(x, w, b, stride, p),
                    lambda x, w, b, p=padding: ops.conv_ref(x, w, b, stride, p),
                    lambda x, w, b, p=padding: float64.conv(x, w, b, stride, p),
                    [rng.standard_normal(s).astype(np.float32) for s in shapes],
                    directions=1,
                )
