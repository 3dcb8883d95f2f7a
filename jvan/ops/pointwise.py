"""1×1 convolution on channels-last maps: a matrix product over the last axis."""

from __future__ import annotations

import jittor as jt

from . import _turns  # noqa: F401
from ._half import in_float32
from ._jit import can_run, members, run_named
from .cuda import families as cuda

_SIZES = "{x}_shape0, {x}_shape1, {weight}_shape0"


def pointwise(x, weight, bias):
    """x: (…, C); weight: (O, C, 1, 1), or (O, C); bias: (O,) -> (…, O)"""
    if cuda.can("pointwise", x, weight, bias):
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
    """By `kernels/pointwise.h`: float32 on the CPU, bias and gradients without their own passes."""
    return _Pointwise.apply(x, weight, bias)


class _Pointwise(jt.Function):
    def execute(self, x, weight, bias):
        flat = x.reshape((-1, x.shape[-1]))
        matrix = weight.reshape(weight.shape[:2])
        self.inputs = flat, matrix
        self.shapes = x.shape, weight.shape, bias.shape
        inputs, outputs = {"x": flat, "weight": matrix, "bias": bias}, {"y": (flat.shape[0], matrix.shape[0])}
        source = f"jvan::pointwise({_SIZES}, {members(*inputs, *outputs)});"
        (y,) = run_named("pointwise.h", source, inputs, outputs)
        return y.reshape([*x.shape[:-1], matrix.shape[0]])

    def grad(self, dy):
        flat, matrix = self.inputs
        inputs = {"dy": dy.reshape((-1, dy.shape[-1])), "x": flat, "weight": matrix}
        outputs = {"dx": flat.shape, "dweight": matrix.shape, "dbias": self.shapes[2]}
        source = f"jvan::pointwise_backward({_SIZES}, {members(*inputs, *outputs)});"
        gradients = run_named("pointwise.h", source, inputs, outputs)
        return tuple(g.reshape(shape) for g, shape in zip(gradients, self.shapes))
