"""GELU's kernel against plain Jittor and the error function in float64."""

import jittor as jt
import numpy as np
import pytest

from jvan.ops._jit import run_kernel
from jvan.ops.gelu import gelu_fused, gelu_ref
from tests import float64

from .check import at_two_widths, check_op, vectors_of

# The feed-forward's backward pass wants both at once.
BOTH = """
for (int64_t i = 0; i < in0_shape0; i += jvan::LANES) {
    jvan::vec value;
    jvan::store(out0_p + i, jvan::gelu_derivative(jvan::load(in0_p + i), value));
    jvan::store(out1_p + i, value);
}
"""


@at_two_widths
@pytest.mark.parametrize("shape", [(1,), (3, 5, 7), (2, 1, 31), (4099,)], ids=str)
def test_kernel(shape, vector_bytes):
    with vectors_of(vector_bytes):
        x = 3 * np.random.RandomState(0).standard_normal(shape).astype(np.float32)
        check_op(gelu_fused, gelu_ref, float64.gelu, [x])


@at_two_widths
def test_error_over_the_whole_line(vector_bytes):
    """Values within 1e-6 of max(1, |x|), derivatives within 1e-6, also where float32's exponential would leave its range."""
    x = np.concatenate([np.linspace(-12, 12, 200_001), [-1e4, -100, -0.0, 0.0, 100, 1e4]]).astype(np.float32)
    exact = float64.gelu(x.astype(np.float64))
    density = np.exp(-(x.astype(np.float64) ** 2) / 2) / np.sqrt(2 * np.pi)
    derivative = float64.erf(x / np.sqrt(2)) / 2 + 0.5 + x * density
    bound = 1e-6 * np.maximum(1, np.abs(x))
    with vectors_of(vector_bytes):
        variable = jt.array(x)
        y = gelu_fused(variable)
        assert (np.abs(y.numpy() - exact) <= bound).all()
        assert np.abs(jt.grad(y.sum(), variable).numpy() - derivative).max() <= 1.5e-6
        count = x.size // 16 * 16  # whole vectors
        slope, value = run_kernel("vector.h", BOTH, [jt.array(x[:count])], [(count,)] * 2)
        assert (np.abs(value.numpy() - exact[:count]) <= bound[:count]).all()
        assert np.abs(slope.numpy() - derivative[:count]).max() <= 1e-6
