"""Convolution over all channels of channels-last maps (N, H, W, C), with weights in PyTorch's shape."""

from __future__ import annotations

import jittor as jt
from jittor import nn

from . import _turns  # noqa: F401
from ._half import in_float32
from ._jit import can_run, members, run_named
from .cuda import families as cuda
from .shapes import convolved

HEADER = "pointwise_patches.h"


def conv(x, weight, bias, stride=1, padding=0):
    """Convolution over all channels.

    x: (N, H, W, C); weight: (O, C, K, K); bias: (O,) -> (N, H', W', O), H' = (H + 2·padding - K) // stride + 1
    """
    if cuda.can("conv", x, weight, bias):
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
        height, width = convolved(x.shape[1:3], size, stride, padding)
        inputs, outputs = {"x": x, "weight": weight, "bias": bias}, {"y": (x.shape[0], height, width, weight.shape[0])}
        source = f"jvan::convolve_patches({_patches('x', 'y')}, {members(*inputs, *outputs)});"
        return run_named(HEADER, source, inputs, outputs, self.numbers)[0]

    def grad(self, dy):
        x, weight, bias = self.inputs
        # Two operators: the gradient of a network's input is seldom wanted, and then never computed.
        inputs, outputs = {"dy": dy, "x": x}, {"dweight": weight.shape, "dbias": bias.shape}
        source = f"jvan::patch_weight_gradients({_patches('x', 'dy')}, {members(*inputs, *outputs)});"
        dw, db = run_named(HEADER, source, inputs, outputs, self.numbers)
        inputs, outputs = {"dy": dy, "weight": weight}, {"dx": x.shape}
        source = f"jvan::patch_input_gradient({_patches('dx', 'dy')}, {members(*inputs, *outputs)});"
        (dx,) = run_named(HEADER, source, inputs, outputs, self.numbers)
        return dx, dw, db, None, None


def _patches(x: str, y: str) -> str:
    """C++ for the sizes of the map x, or its gradient, and of y."""
    extents = [f"{{{x}}}_shape{i}" for i in range(4)] + [f"{{{y}}}_shape{i}" for i in range(1, 4)]
    return f"jvan::Patches{{{{{', '.join(extents)}, size, stride, padding}}}}"
