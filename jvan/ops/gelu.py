"""GELU, exact: x·Φ(x) with Φ from the error function."""

from __future__ import annotations

import jittor as jt
from jittor import nn

from ._half import in_float32
from ._jit import can_run, run_kernel


def gelu(x):
    """x·Φ(x), element by element."""
    return (gelu_fused if can_run(x) else gelu_ref)(x)


@in_float32
def gelu_ref(x):
    """By Jittor's own operators."""
    return nn.gelu(x)


def gelu_fused(x):
    """By `kernels/elementwise.h`: float32 on the CPU. Keeps x alone for the backward pass."""
    return _GELU.apply(x)


class _GELU(jt.Function):
    def execute(self, x):
        self.x = x
        return _run("jvan::gelu_array(in0_shape0, in0_p, out0_p);", x)

    def grad(self, dy):
        return _run("jvan::gelu_array_backward(in0_shape0, in0_p, in1_p, out0_p);", self.x, dy)


def _run(source, x, *others):
    flat = [v.reshape((-1,)) for v in (x, *others)]
    return run_kernel("elementwise.h", source, flat, [flat[0].shape])[0].reshape(x.shape)
