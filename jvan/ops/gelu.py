"""GELU, exact: x·Φ(x) with Φ from the error function."""

from __future__ import annotations

import jittor as jt
from jittor import nn

from ._half import in_float32
from ._jit import can_run, members, run_named


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
        return _run("jvan::gelu_array({x}_shape0, {x}_p, {y}_p);", {"x": x}, "y")

    def grad(self, dy):
        source = f"jvan::gelu_array_backward({{x}}_shape0, {members('x', 'dy', 'dx')});"
        return _run(source, {"x": self.x, "dy": dy}, "dx")


def _run(source, inputs, output):
    flat = {name: value.reshape((-1,)) for name, value in inputs.items()}
    shape = inputs["x"].shape
    return run_named("elementwise.h", source, flat, {output: flat["x"].shape})[0].reshape(shape)
