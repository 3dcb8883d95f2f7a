"""Depthwise convolutions on channels-last maps, one or large-kernel attention's two: stride 1, padding that keeps the map's size."""

from __future__ import annotations

import jittor as jt

from . import _turns  # noqa: F401
from ._half import in_float32
from ._jit import can_run, run_kernel
from .cuda import layers as cuda

_SHAPE = "in0_shape0, in0_shape1, in0_shape2, in0_shape3, in1_shape2, dilation"
_PAIR = "in0_shape0, in0_shape1, in0_shape2, in0_shape3, in1_shape2, in3_shape2, dilation"


def depthwise(x, weight, bias, dilation=1):
    """Depthwise convolution that keeps the map's size: stride 1, padding dilation·(K - 1) / 2.

    x: (N, H, W, C); weight: (C, 1, K, K); bias: (C,) -> (N, H, W, C)
    """
    if cuda.can_depthwise(x, weight, bias):
        return cuda.depthwise(x, weight, bias, dilation)
    chosen = depthwise_fused if can_run(x, weight, bias) else depthwise_ref
    return chosen(x, weight, bias, dilation)


@in_float32
def depthwise_ref(x, weight, bias, dilation=1):
    """The same by Jittor's index operators: oneDNN or cuDNN where Jittor finds them, generic loops elsewhere."""
    batch, height, width, chans = x.shape
    size = weight.shape[2]
    padding = dilation * (size - 1) // 2
    # Two axes of length one (channels of a group, in and out) make this the grouped pattern that Jittor tunes.
    shape = [batch, height, width, chans, 1, 1, size, size]
    taps = x.reindex(shape, ["i0", f"i1-{padding}+i6*{dilation}", f"i2-{padding}+i7*{dilation}", "i3*1+i5"])
    taps.compile_options = {"G": chans}
    products = taps * weight.reindex(shape, ["i3*1+i4", "i5", "i6", "i7"])
    return products.reindex_reduce("add", [batch, height, width, chans], ["i0", "i1", "i2", "i3*1+i4"]) + bias


def depthwise_fused(x, weight, bias, dilation=1):
    """The same by the kernels of `kernels/depthwise.h` and `kernels/depthwise_backward.h`: float32 on the CPU."""
    return _Depthwise.apply(x, weight, bias, dilation)


class _Depthwise(jt.Function):
    def execute(self, x, weight, bias, dilation):
        self.inputs, self.dilation = (x, weight, bias), dilation
        return convolve(x, weight, bias, dilation, reverse=False)

    def grad(self, dy):
        x, weight, bias = self.inputs
        dx = convolve(dy, weight, bias, self.dilation, reverse=True)
        return (dx, *weight_gradients(x, weight, bias, dy, self.dilation), None)


def convolve(x, weight, bias, dilation, reverse):
    """The convolution, or its input's gradient, which has the taps reversed and no bias: one compiled operator for both."""
    source = f"jvan::depthwise_batch({_SHAPE}, in0_p, in1_p, reverse ? nullptr : in2_p, reverse, out0_p);"
    numbers = {"dilation": dilation, "reverse": reverse}
    return run_kernel("depthwise_op.h", source, [x, weight, bias], [x.shape], numbers)[0]


def weight_gradients(x, weight, bias, dy, dilation):
    """Gradients of the weight and of the bias, in one pass over x and the gradient dy of the output (N, H, W, C)."""
    source = f"jvan::depthwise_batch_gradients({_SHAPE}, in0_p, in2_p, out0_p, out1_p);"
    shapes = [weight.shape, bias.shape]
    return run_kernel("depthwise_backward.h", source, [x, weight, dy], shapes, {"dilation": dilation})


def convolve_pair(u, local, remote, dilation):
    """Two convolutions, one after the other: `local` and the dilated `remote` are weight and bias each -> (N, H, W, C)."""
    source = f"jvan::depthwise_pair({_PAIR}, in0_p, in1_p, in2_p, in3_p, in4_p, out0_p);"
    return run_kernel("depthwise_pair.h", source, [u, *local, *remote], [u.shape], {"dilation": dilation})[0]


def pair_gradients(u, da, local, remote, dilation):
    """From the gradient da of the output, the gradients of u and of both convolutions' weights and biases: five."""
    pointers = "in0_p, in4_p, in1_p, in2_p, in3_p, out0_p, out1_p, out2_p, out3_p, out4_p"
    source = f"jvan::depthwise_pair_backward({_PAIR}, {pointers});"
    shapes = [v.shape for v in (u, *local, *remote)]
    return run_kernel("depthwise_pair.h", source, [u, *local, remote[0], da], shapes, {"dilation": dilation})
