"""1×1 convolution on channels-last maps: a matrix product over the last axis."""

from __future__ import annotations

import jittor as jt

from . import _turns  # noqa: F401
from ._half import in_float32
from ._jit import can_run, run_kernel
from .cuda import layers as cuda


def pointwise(x, weight, bias):
    """x: (…, C); weight: (O, C, 1, 1), or (O, C); bias: (O,) -> (…, O)"""
    if cuda.can_pointwise(x, weight, bias):
        return cuda.pointwise(x, weight, bias)
    return (pointwise_fused if can_run(x, weight, bias) else pointwise_ref)(x, weight, bias)


@in_float32
def pointwise_ref(x, weight, bias):
    """By Jittor's own operators; takes and returns what `pointwise` does."""
    out_chans, in_chans = weight.shape[:2]
    flat = x.reshape((-1, in_chans))
    # Broadcast, multiply, sum: the form in which Jittor recognises a product with a transposed matrix.
    shape = [flat.shape[0], out_chans, in_chans]
    product = (flat.broadcast(shape, [1]) * weight.reshape((out_chans, in_chans)).broadcast(shape, [0])).sum(2)
    return product.reshape([*x.shape[:-1], out_chans]) + bias


def pointwise_fused(x, weight, bias):
    """By `kernels/pointwise.h`: float32 on the CPU, bias and gradients without passes of their own."""
    return _Pointwise.apply(x, weight, bias)


class _Pointwise(jt.Function):
    def execute(self, x, weight, bias):
        flat = x.reshape((-1, x.shape[-1]))
        matrix = weight.reshape(weight.shape[:2])
        self.inputs = flat, matrix
        self.shapes = x.shape, weight.shape, bias.shape
        source = "jvan::pointwise(in0_shape0, in0_shape1, in1_shape0, in0_p, in1_p, in2_p, out0_p);"
        (y,) = run_kernel("pointwise.h", source, [flat, matrix, bias], [(flat.shape[0], matrix.shape[0])])
        return y.reshape([*x.shape[:-1], matrix.shape[0]])

    def grad(self, dy):
        flat, matrix = self.inputs
        source = (
            "jvan::pointwise_backward(in1_shape0, in1_shape1, in2_shape0, in0_p, in1_p, in2_p, out0_p, out1_p, out2_p);"
        )
        shapes = [flat.shape, matrix.shape, self.shapes[2]]
        gradients = run_kernel("pointwise.h", source, [dy.reshape((-1, dy.shape[-1])), flat, matrix], shapes)
        return tuple(g.reshape(shape) for g, shape in zip(gradients, self.shapes))
