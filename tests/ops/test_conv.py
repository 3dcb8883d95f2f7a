"""Convolutions against numpy in float64: forward and every gradient, odd and prime shapes."""

import jittor as jt
import numpy as np
import pytest

from jvan.ops import conv as ops

from .check import at_two_widths, check_op, vectors_of

# N, H, W, C. The small ones come first: Jittor compiles for the first shape and reuses what it chose.
SHAPES = [(1, 1, 1, 5), (1, 5, 5, 8), (2, 7, 11, 3), (1, 13, 5, 8), (3, 4, 4, 17)]


def numpy_conv(x, weight, bias, stride=1, padding=0, dilation=1, depthwise=False):
    """x (N, H, W, C), weight as PyTorch has it, float64: one tap of the kernel at a time."""
    size = weight.shape[2]
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    out_h, out_w = ((s + 2 * padding - dilation * (size - 1) - 1) // stride + 1 for s in x.shape[1:3])
    total = bias
    for i in range(size):
        for j in range(size):
            rows = slice(i * dilation, i * dilation + (out_h - 1) * stride + 1, stride)
            columns = slice(j * dilation, j * dilation + (out_w - 1) * stride + 1, stride)
            tap = padded[:, rows, columns]
            total = total + (tap * weight[:, 0, i, j] if depthwise else tap @ weight[:, :, i, j].T)
    return total


def check(op, oracle, shapes, seed=0):
    """Compare op(*inputs), and the gradients of Σ op·direction, with the oracle's (finite differences in float64)."""
    rng = np.random.RandomState(seed)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    exact = oracle(*[a.astype(np.float64) for a in arrays])
    variables = [jt.array(a) for a in arrays]
    ours = op(*variables)
    assert tuple(ours.shape) == exact.shape
    assert np.abs(ours.numpy() - exact).max() <= 1e-5 * np.abs(exact).max()

    direction = rng.standard_normal(exact.shape)
    gradients = jt.grad((ours * jt.array(direction.astype(np.float32))).sum(), variables)
    for i, gradient in enumerate(gradients):
        # A convolution is linear in each input: along a step the difference is exact.
        step = rng.standard_normal(arrays[i].shape)
        moved = [a.astype(np.float64) + (step if j == i else 0) for j, a in enumerate(arrays)]
        slope = ((oracle(*moved) - exact) * direction).sum()
        scale = np.sqrt((gradient.numpy().astype(np.float64) ** 2).sum() * (step**2).sum())
        assert abs((gradient.numpy() * step).sum() - slope) <= 1e-5 * max(scale, 1), f"gradient {i}"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("size, stride", [(7, 4), (3, 2), (3, 1), (7, 2)])
def test_conv(shape, size, stride):
    check(
        lambda x, w, b: ops.conv(x, w, b, stride, size // 2),
        lambda x, w, b: numpy_conv(x, w, b, stride=stride, padding=size // 2),
        [shape, (6, shape[-1], size, size), (6,)],
    )


@at_two_widths
@pytest.mark.parametrize("size, stride", [(7, 4), (3, 2), (3, 1), (4, 3), (1, 2)])
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
                    lambda x, w, b, p=padding: numpy_conv(x, w, b, stride, p),
                    [rng.standard_normal(s).astype(np.float32) for s in shapes],
                    directions=1,
                )
