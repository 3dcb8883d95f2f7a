"""Large-kernel attention's two depthwise convolutions in one operator against numpy in float64."""

import jittor as jt
import numpy as np
import pytest

from jvan.ops.depthwise import convolve_pair, pair_gradients
from tests import float64

from .check import at_two_widths, check_op, vectors_of

# Sides of the two kernels and the second one's dilation: the network's, those of other LKAs (even sides, one that reaches
# past most maps), and one pixel.
PAIRS = [(5, 7, 3), (3, 4, 2), (7, 7, 4), (4, 1, 1), (1, 1, 1)]
# N, H, W: one pixel, less than the kernels reach over, rows and columns, several slices and rows a thread, a batch of 64.
MAPS = [(1, 1, 1), (2, 7, 7), (1, 13, 5), (1, 2, 31), (1, 37, 1), (2, 29, 23), (64, 1, 1), (64, 7, 5)]
CHANS = [1, 5, 33]


class Pair(jt.Function):
    def execute(self, u, w_local, b_local, w_remote, b_remote, dilation):
        self.operands = (w_local, b_local), (w_remote, b_remote), dilation
        self.u = u
        return convolve_pair(u, *self.operands)

    def grad(self, da):
        return (*pair_gradients(self.u, da, *self.operands), None)


def numpy_pair(dilation):
    def run(u, w_local, b_local, w_remote, b_remote):
        return float64.depthwise(float64.depthwise(u, w_local, b_local), w_remote, b_remote, dilation)

    return run


@at_two_widths
@pytest.mark.parametrize("chans", CHANS)
@pytest.mark.parametrize("local, remote, dilation", PAIRS)
def test_pair(local, remote, dilation, chans, vector_bytes):
    rng = np.random.RandomState(0)
    for shape in MAPS:
        shapes = [(*shape, chans), (chans, 1, local, local), (chans,), (chans, 1, remote, remote), (chans,)]
        with vectors_of(vector_bytes):
            check_op(
                lambda *operands: Pair.apply(*operands, dilation),
                None,
                numpy_pair(dilation),
                [rng.standard_normal(s).astype(np.float32) for s in shapes],
                directions=1,
            )
