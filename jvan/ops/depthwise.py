"""Depthwise convolutions on channels-last maps, one or large-kernel attention's two: stride 1, padding that keeps the map's size."""

from __future__ import annotations

import jittor as jt

from . import _turns  # noqa: F401
from ._half import in_float32
from ._jit import can_run, members, run_named
from .cuda import families as cuda

_SHAPE = "{x}_shape0, {x}_shape1, {x}_shape2, {x}_shape3"
_PAIR = "{u}_shape0, {u}_shape1, {u}_shape2, {u}_shape3, {w_dw}_shape2, {w_dw_d}_shape2, dilation"


def depthwise(x, weight, bias, dilation=1):
    """Depthwise convolution that keeps the map's size: stride 1, padding dilation·(K - 1) / 2.

    x: (N, H, W, C); weight: (C, 1, K, K); bias: (C,) -> (N, H, W, C)
    """
    if cuda.can("depthwise", x, weight, bias):
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


def convolve(x, weight, bias, dilation, *, reverse):
    """The convolution, or its input's gradient, which has the taps reversed and no bias: one compiled operator for both."""
    inputs, outputs = {"x": x, "weight": weight, "bias": bias}, {"y": x.shape}
    source = f"jvan::depthwise_batch({_SHAPE}, {{weight}}_shape2, dilation, reverse, {members(*inputs, *outputs)});"
    return run_named("depthwise_op.h", source, inputs, outputs, {"dilation": dilation, "reverse": reverse})[0]


def weight_gradients(x, weight, bias, dy, dilation):
    """Gradients of the weight and of the bias, in one pass over x and the gradient dy of the output (N, H, W, C)."""
    inputs, outputs = {"x": x, "dy": dy}, {"dweight": weight.shape, "dbias": bias.shape}
    source = f"jvan::depthwise_batch_gradients({_SHAPE}, {{dweight}}_shape2, dilation, {members(*inputs, *outputs)});"
    return run_named("depthwise_backward.h", source, inputs, outputs, {"dilation": dilation})


def convolve_pair(u, dw, dw_d, dilation):
    """Two convolutions, one after the other: `dw` and the dilated `dw_d` are weight and bias each -> (N, H, W, C)."""
    inputs, outputs = {"u": u, **_named("dw", dw), **_named("dw_d", dw_d)}, {"a": u.shape}
    source = f"jvan::depthwise_pair({_PAIR}, {members(*inputs, *outputs)});"
    return run_named("depthwise_pair.h", source, inputs, outputs, {"dilation": dilation})[0]


def pair_gradients(u, da, dw, dw_d, dilation):
    """From the gradient da of the output, the gradients of u and of both convolutions' weights and biases: five."""
    layers = {**_named("dw", dw), **_named("dw_d", dw_d)}
    inputs = {"u": u, "da": da, **{name: value for name, value in layers.items() if name != "b_dw_d"}}
    outputs = {"du": u.shape, **{f"d{name}": value.shape for name, value in layers.items()}}
    source = f"jvan::depthwise_pair_backward({_PAIR}, {members(*inputs, *outputs)});"
    return run_named("depthwise_pair.h", source, inputs, outputs, {"dilation": dilation})


def _named(layer: str, weight_and_bias) -> dict:
    return dict(zip((f"w_{layer}", f"b_{layer}"), weight_and_bias))
