"""The normalisations' kernels against plain Jittor and numpy in float64."""

import jittor as jt
import numpy as np
import pytest

from jvan.ops import norm as ops
from tests import float64

from .check import at_two_widths, check_op, vectors_of

# One row of blocks and many, more rows than one thread takes at a time, widths that fill no vector.
SHAPES = [(2, 1, 3, 5), (1, 7, 5, 17), (3, 4, 4, 33), (2, 31, 29, 8), (1, 70, 1, 130)]


def inputs(shape, seed=5):  # not check_op's: an output weighted by its own input has no gradient
    rng = np.random.RandomState(seed)
    return [rng.standard_normal(s).astype(np.float32) for s in (shape, shape[-1:], shape[-1:])]


@at_two_widths
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch_norm(shape, vector_bytes):
    with vectors_of(vector_bytes):
        check_op(
            lambda x, w, b: ops.batch_norm_fused(x, w, b, 1e-5)[0],
            lambda x, w, b: ops.batch_norm_ref(x, w, b, 1e-5)[0],
            float64.batch_norm,
            inputs(shape),
            tolerance=3e-5,
        )


@at_two_widths
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_layer_norm(shape, vector_bytes):
    with vectors_of(vector_bytes):
        check_op(
            lambda x, w, b: ops.layer_norm_fused(x, w, b, 1e-5),
            lambda x, w, b: ops.layer_norm_ref(x, w, b, 1e-5),
            float64.layer_norm,
            inputs(shape),
            tolerance=3e-5,
        )


@at_two_widths
@pytest.mark.parametrize("offset", [0, 1000, -30000])
def test_statistics_of_values_far_from_zero(offset, vector_bytes):
    """E[x²] - E[x]² in float32 would lose the variance altogether; one that drifts tests the union of blocks."""
    rng = np.random.RandomState(0)
    x = rng.standard_normal((4, 37, 41, 19)) + offset + np.linspace(0, 5, 37)[:, None, None]
    x = x.astype(np.float32)
    with vectors_of(vector_bytes):
        mean, var = ops.batch_statistics_fused(jt.array(x))
    np.testing.assert_allclose(mean.numpy(), x.astype(np.float64).mean((0, 1, 2)), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(var.numpy(), x.astype(np.float64).var((0, 1, 2)), rtol=2e-6)


def test_batch_norm_returns_the_statistics_detached():
    x, weight, bias = (jt.array(a) for a in inputs((2, 5, 7, 11)))
    _, mean, var = ops.batch_norm_fused(x, weight, bias, 1e-5)
    np.testing.assert_allclose(mean.numpy(), x.numpy().astype(np.float64).mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(var.numpy(), x.numpy().astype(np.float64).var((0, 1, 2)), rtol=1e-6)
    assert not mean.requires_grad and not var.requires_grad


@pytest.mark.parametrize("op", ["batch_norm", "layer_norm"])
def test_the_same_bits_at_every_run(op):
    arrays = inputs((3, 31, 29, 40))

    def run():
        variables = [jt.array(a) for a in arrays]
        y = getattr(ops, f"{op}_fused")(*variables, 1e-5)
        y = y[0] if isinstance(y, tuple) else y
        return [y.numpy()] + [g.numpy() for g in jt.grad((y * y * y).sum(), variables)]

    first = run()
    for _ in range(3):
        assert all(np.array_equal(a, b) for a, b in zip(first, run()))
