"""The convolutional feed-forward half of a block in training: BatchNorm, layer scale, drop path and residual with it."""

from __future__ import annotations

import jittor as jt
from jittor import nn

from ._half import in_float32
from ._jit import can_run, members, run_named
from .cuda import families as cuda
from .depthwise import depthwise_ref
from .norm import batch_norm_gradient
from .pointwise import pointwise_ref

_MAP = "jvan::FeedForward{{{x}_shape0, {x}_shape1, {x}_shape2, {x}_shape3, {w_fc1}_shape0}}"
_PANEL = 32  # hidden channels that are kept together, or a divisor of it: PANEL in the kernel, two vectors of 64 bytes or less


def feed_forward(x, norm, fc1, dw, fc2, scale, keep, recompute=False):
    """x + keep·scale·fc2(gelu(dw(fc1(norm(x))))).

    x: (N, H, W, C); norm: ops.norm.FusedNorm; fc1: weight (D, C, 1, 1) and bias (D,); dw: (D, 1, 3, 3) and (D,);
    fc2: (C, D, 1, 1) and (C,); scale: (C,); keep: (N,), drop path's factors -> (like x, mean (C,), var (C,)):
    the output and the statistics that norm used. With `recompute` the backward pass makes fc1's output again.
    """
    layers = (*fc1, *dw, *fc2, scale)
    if dw[0].shape[2] == 3 and cuda.can("feed_forward", x, norm.weight, norm.bias, *layers):
        return cuda.feed_forward(x, norm, fc1, dw, fc2, scale, keep)
    can = can_run(x, norm.weight, *layers, keep) and dw[0].shape[2] == 3
    return (feed_forward_fused if can else feed_forward_ref)(x, norm, fc1, dw, fc2, scale, keep, recompute)


@in_float32
def feed_forward_ref(x, norm, fc1, dw, fc2, scale, keep, recompute=False):
    """By Jittor's own operators; takes and returns what `feed_forward` does."""
    normal, mean, var = norm.ref(x)
    hidden = nn.gelu(depthwise_ref(pointwise_ref(normal, *fc1), *dw))
    return x + scale * pointwise_ref(hidden, *fc2) * keep.reshape((-1, 1, 1, 1)), mean, var


def feed_forward_fused(x, norm, fc1, dw, fc2, scale, keep, recompute=False):
    """By `kernels/pointwise_feed_forward.h` and its backward pass: float32 on the CPU. Keeps x and fc1's output, or x alone."""
    mean, var, rstd = norm.statistics(x)
    inputs = (x, norm.weight, norm.bias, *fc1, *dw, *fc2, scale)
    # Where no parameter learns, the map is not kept: most such networks run for their output alone.
    recompute = recompute or jt.flags.no_grad or all(v.is_stop_grad() for v in inputs[1:])
    out = _FeedForward.apply(*inputs, keep.stop_grad(), mean, rstd, norm.constant, recompute)
    return out, mean, var


class _FeedForward(jt.Function):
    def execute(
        self, x, gamma, beta, w_fc1, b_fc1, w_dw, b_dw, w_fc2, b_fc2, scale, keep, mean, rstd, constant, recompute
    ):
        self.constant = constant
        first = {"w_fc1": w_fc1, "b_fc1": b_fc1, "w_dw": w_dw, "b_dw": b_dw}
        self.layers = {**first, "w_fc2": w_fc2, "b_fc2": b_fc2, "scale": scale}
        norm = {"mean": mean, "rstd": rstd, "gamma": gamma, "beta": beta}
        self.inputs = {"x": x, **norm, **self.layers, "keep": keep}
        outputs = {"y": x.shape}
        if not recompute:
            outputs["h"] = (-(-w_fc1.shape[0] // _PANEL), *x.shape[:3], _PANEL)
        source = f"jvan::feed_forward({_MAP}, {members(*self.inputs)}, {members(*outputs)});"
        y, *self.h = run_named("pointwise_feed_forward.h", source, self.inputs, outputs)
        return y

    def grad(self, dout):
        x = self.inputs["x"]
        h, self.h = self.h, []  # freed as soon as used, whatever holds on to this object
        given = {"dout": dout, "h": h[0]} if h else {"dout": dout}
        learned = {f"d{name}": v.shape for name, v in self.layers.items()}
        outputs = {"dnormal": x.shape, **learned, "norm_sums": (2, x.shape[-1])}
        source = f"jvan::feed_forward_backward({_MAP}, {members(*self.inputs)}, {members(*given, *outputs)});"
        header = "pointwise_feed_forward_backward.h"
        dnormal, *layers, sums = run_named(header, source, {**self.inputs, **given}, outputs)
        gamma, mean, rstd = (self.inputs[name] for name in ("gamma", "mean", "rstd"))
        dx = batch_norm_gradient(dnormal, x, gamma, mean, rstd, sums, residual=dout, constant=self.constant)
        return (dx, sums[1], sums[0], *layers, *[None] * 5)
