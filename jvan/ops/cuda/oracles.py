"""What the operators compute, in numpy: slow, plain, and in the precision of what they are given."""

from __future__ import annotations

from math import erf

import numpy as np

_erf = np.frompyfunc(erf, 1, 1)


def depthwise(x, weight, bias, dilation):
    """x (N, H, W, C), weight (C, 1, K, K): one tap of the kernel at a time."""
    size, (height, width) = weight.shape[2], x.shape[1:3]
    reach = dilation * (size - 1)
    pad = (reach // 2, reach - reach // 2)
    padded = np.pad(x, ((0, 0), pad, pad, (0, 0)))
    total = np.zeros_like(x) + bias
    for i in range(size):
        for j in range(size):
            total += padded[:, i * dilation :, j * dilation :][:, :height, :width] * weight[:, 0, i, j]
    return total


def gelu(x):
    return x * (_erf(x / np.sqrt(2)).astype(x.dtype) / 2 + 0.5)


def residual(p, bias, inner, scale, x, keep):
    """Rows (N·P, C) and factors keep (N,)."""
    return x + np.repeat(keep, len(x) // len(keep))[:, None] * scale * (p + bias + inner)


def batch_norm(x, weight, bias, eps):
    return (x - x.mean(0)) / np.sqrt(x.var(0) + eps) * weight + bias


def layer_norm(x, weight, bias, eps):
    return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + eps) * weight + bias


def patches(x, size, stride, padding):
    """x (N, H, W, C) -> (N, H', W', K, K, C)"""
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))
    return windows[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)


def adamw(value, gradient, mean, square, decay, beta1, rest1, beta2, rest2, root, eps, rate):
    mean = mean * beta1 + gradient * rest1
    square = square * beta2 + gradient**2 * rest2
    return value * decay - mean / (np.sqrt(square) * root + eps) * rate, mean, square
