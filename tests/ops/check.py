"""A kernel against plain Jittor and against numpy in float64: the outputs and every gradient."""

from __future__ import annotations

import contextlib
import functools

import jittor as jt
import numpy as np
import pytest

from jvan.ops import _jit

# The vectors of a 128-bit machine and of AVX-512, whatever this machine has: the compiler splits what is too wide.
at_two_widths = pytest.mark.parametrize("vector_bytes", [16, 64])


@contextlib.contextmanager
def vectors_of(vector_bytes):
    """Kernels that run inside are compiled for vectors of so many bytes."""
    # The processor's own are what the kernels choose by themselves: asked for by name they would be compiled once more.
    asked = None if vector_bytes == _processors_own() else vector_bytes
    before, _jit.vector_bytes = _jit.vector_bytes, asked
    try:
        yield
    finally:
        _jit.vector_bytes = before


@functools.cache
def _processors_own() -> int:
    macros = _jit._macros(jt.flags.cc_path, "-march=native")
    return 64 if "__AVX512F__" in macros else 32 if "__AVX__" in macros else 16


def check_op(fused, ref, oracle, arrays, tolerance=1e-5, directions=3, seed=0):
    """Compare fused(*inputs) with ref(*inputs), if given, and with oracle(*arrays in float64): outputs and gradients.

    A gradient is that of Σ output·weight with random weights. It is compared with ref's element by
    element, and with the oracle's slope along random directions (central differences in float64). Errors are
    relative to the largest element, of a slope to the product of the norms.

    arrays: float32 arrays, all differentiated; fused, ref: jt.Var -> jt.Var; oracle: float64 arrays -> array
    """
    rng = np.random.RandomState(seed)
    exact = oracle(*(a.astype(np.float64) for a in arrays))
    weights = rng.standard_normal(exact.shape)
    ours, our_gradients = _run(fused, arrays, weights)
    assert ours.shape == exact.shape
    assert _difference(ours, exact) <= tolerance, "output, against float64"
    for i, gradient in enumerate(our_gradients):
        assert gradient.shape == arrays[i].shape
        for _ in range(directions):
            direction = rng.standard_normal(arrays[i].shape)
            slope = _slope(oracle, arrays, i, direction, weights)
            scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
            error = abs((gradient * direction).sum() - slope)
            assert error <= tolerance * max(scale, 1), f"gradient {i}, against float64"
    if ref is None:
        return
    plain, plain_gradients = _run(ref, arrays, weights)
    assert _difference(ours, plain) <= tolerance, "output, against plain Jittor"
    for i, (gradient, expected) in enumerate(zip(our_gradients, plain_gradients)):
        assert _difference(gradient, expected) <= tolerance, f"gradient {i}, against plain Jittor"


def _run(op, arrays, weights):
    variables = [jt.array(a) for a in arrays]
    output = op(*variables)
    gradients = jt.grad((output * jt.array(weights.astype(np.float32))).sum(), variables)
    return output.numpy(), [g.numpy().astype(np.float64) for g in gradients]


def _difference(ours, theirs):
    return np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-3)


def _slope(oracle, arrays, i, direction, weights, step=1e-4):
    def moved(by):
        return oracle(*(a.astype(np.float64) + (by * direction if j == i else 0) for j, a in enumerate(arrays)))

    return ((moved(step) - moved(-step)) * weights).sum() / (2 * step)
