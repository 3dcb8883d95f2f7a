"""Convolution over all channels of channels-last maps (N, H, W, C), with weights in PyTorch's shape."""

from __future__ import annotations

import jittor as jt
from jittor import nn

from . import _turns  # noqa: F401
from ._half import in_float32
from ._jit import can_run, run_kernel
from .cuda import layers as cuda

_PATCHES = (
    "jvan::Patches{{{x}_shape0, {x}_shape1, {x}_shape2, {x}_shape3, {y}_shape1, {y}_shape2, {y}_shape3, "
    "size, stride, padding}}"
)


def conv(x, weight, bias, stride=1, padding=0):
    """Convolution over all channels.

    x: (N, H, W, C); weight: (O, C, K, K); bias: (O,) -> (N, H', W', O), H' = (H + 2·padding - K) // stride + 1
    """
    if cuda.can_conv(x, weight, bias):
        return cuda.conv(x, weight, bias, stride, padding)
    return (conv_fused if can_run(x, weight, bias) else conv_ref)(x, weight, bias, stride, padding)


@in_float32
def conv_ref(x, weight, bias, stride=1, padding=0):
    """By Jittor's convolution: oneDNN and cuDNN where Jittor finds them, generic loops elsewhere."""
    # Channels first for this one: of the channels-last form with a stride, Jittor 1.3.11 computes the
    # weight's gradient as a dilated convolution chosen for the first shape it meets, which writes past
    # its output for later shapes (first H = 5, then H = 7, K = 7, stride 4).
    maps = nn.conv2d(x.permute(0, 3, 1, 2), weight, None, stride=stride, padding=padding)
    return maps.permute(0, 2, 3, 1) + bias


def conv_fused(x, weight, bias, stride=1, padding=0):
    """By `kernels/pointwise_patches.h`: float32 on the CPU."""
    return _Conv.apply(x, weight, bias, stride, padding)


class _Conv(jt.Function):
    def execute(self, x, weight, bias, stride, padding):
        size = weight.shape[2]
        self.inputs = x, weight, bias
        self.numbers = {"size": size, "stride": stride, "padding": padding}
        height, width = ((extent + 2 * padding - size) // stride + 1 for extent in x.shape[1:3])
        source = f"jvan::convolve_patches({_PATCHES.format(x='in0', y='out0')}, in0_p, in1_p, in2_p, out0_p);"
        shape = (x.shape[0], height, width, weight.shape[0])
        return run_kernel("pointwise_patches.h", source, [x, weight, bias], [shape], self.numbers)[0]

    def grad(self, dy):
        x, weight, bias = self.inputs
        # Two operators: the gradient of a network's input is seldom wanted, and then never computed.
        source = f"jvan::patch_weight_gradients({_PATCHES.format(x='in1', y='in0')}, in0_p, in1_p, out0_p, out1_p);"
        shapes = [weight.shape, bias.shape]
        dw, db = run_kernel("pointwise_patches.h", source, [dy, x], shapes, self.numbers)
        source = f"jvan::patch_input_gradient({_PATCHES.format(x='out0', y='in0')}, in0_p, in1_p, out0_p);"
        (dx,) = run_kernel("pointwise_patches.h", source, [dy, weight], [x.shape], self.numbers)
        return dx, dw, db, None, None
