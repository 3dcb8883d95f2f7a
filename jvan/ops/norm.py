"""BatchNorm and LayerNorm over the last axis of channels-last maps, with PyTorch's numbers and gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import jittor as jt

from ._half import in_float32
from ._jit import can_run, members, run_named
from .cuda import families as cuda
from .shapes import as_rows

_SIZES = "{x}_shape0, {x}_shape1"  # rows, channels


class FusedNorm(NamedTuple):
    """A BatchNorm that an operator applies to its input: by the batch's statistics, or by `mean` and `var` as constants."""

    weight: Any
    bias: Any
    eps: float
    mean: Any = None
    var: Any = None

    @property
    def constant(self) -> bool:
        return self.mean is not None

    def ref(self, x):
        """-> (normalised x, mean, var) by plain Jittor."""
        if not self.constant:
            return batch_norm_ref(x, self.weight, self.bias, self.eps)
        y = (x - self.mean) * (self.weight / (self.var + self.eps).sqrt()) + self.bias
        return y, self.mean, self.var

    def statistics(self, x):
        """-> (mean, var, 1 / sqrt(var + eps)) by the kernel, without gradients."""
        mean, var = (self.mean.detach(), self.var.detach()) if self.constant else batch_statistics_fused(x)
        return mean, var, (1 / (var + self.eps).sqrt()).stop_grad()


def batch_statistics_fused(x):
    """Mean and biased variance of each channel, in one pass over memory: x (…, C) -> two of (C,), both detached (`kernels/batch_norm.h`)."""
    chans = x.shape[-1]
    inputs, outputs = {"x": x.detach().reshape((-1, chans))}, {"mean": (chans,), "var": (chans,)}
    source = f"jvan::batch_statistics({_SIZES}, {members(*inputs, *outputs)});"
    mean, var = run_named("batch_norm.h", source, inputs, outputs)
    return mean.stop_grad(), var.stop_grad()


def batch_norm(x, weight, bias, eps):
    """Normalise x (…, C) by the batch's own statistics -> (y, mean, var): y as x, mean and biased var (C,) detached."""
    if cuda.can("batch_norm", x, weight, bias):
        return cuda.batch_norm(x, weight, bias, eps)
    return (batch_norm_fused if can_run(x, weight, bias) else batch_norm_ref)(x, weight, bias, eps)


@in_float32
def batch_norm_ref(x, weight, bias, eps):
    """By Jittor's own operators; takes and returns what `batch_norm` does."""
    axes = list(range(x.ndim - 1))
    mean = x.mean(axes)
    centred = x - mean
    var = (centred * centred).mean(axes)
    return centred * (weight / (var + eps).sqrt()) + bias, mean.detach(), var.detach()


def batch_norm_fused(x, weight, bias, eps):
    """By `kernels/batch_norm.h`: float32 on the CPU."""
    mean, var, rstd = FusedNorm(weight, bias, eps).statistics(x)
    return _BatchNorm.apply(x, weight, bias, mean, rstd), mean, var


class _BatchNorm(jt.Function):
    def execute(self, x, weight, bias, mean, rstd):
        self.inputs = x, weight, mean, rstd
        rows = as_rows(x)
        inputs, outputs = {"x": rows, "mean": mean, "rstd": rstd, "gamma": weight, "beta": bias}, {"y": rows.shape}
        source = f"jvan::batch_norm_forward({_SIZES}, {members(*inputs, *outputs)});"
        return run_named("batch_norm.h", source, inputs, outputs)[0].reshape(x.shape)

    def grad(self, dy):
        x, weight, mean, rstd = self.inputs
        inputs, outputs = {"dy": as_rows(dy), "x": as_rows(x), "mean": mean, "rstd": rstd}, {"sums": (2, x.shape[-1])}
        source = f"jvan::batch_norm_sums({_SIZES}, {members(*inputs, *outputs)});"
        (sums,) = run_named("batch_norm.h", source, inputs, outputs)
        return batch_norm_gradient(dy, x, weight, mean, rstd, sums), sums[1], sums[0], None, None


def batch_norm_gradient(dy, x, weight, mean, rstd, sums, residual=None, constant=False):
    """The gradient of a BatchNorm's input from dy, that of its output, and its sums (2, C) of dy and dy·x̂.

    With `residual`, like x, that much more; `constant` where the statistics do not depend on x.
    """
    residual, add = (dy, False) if residual is None else (residual, True)
    norm = {"mean": mean, "rstd": rstd, "gamma": weight}
    inputs = {"dy": as_rows(dy), "x": as_rows(x), **norm, "sums": sums, "residual": as_rows(residual)}
    outputs = {"dx": inputs["x"].shape}
    source = f"jvan::batch_norm_backward({_SIZES}, add, constant, {members(*inputs, *outputs)});"
    numbers = {"add": add, "constant": constant}
    return run_named("batch_norm.h", source, inputs, outputs, numbers)[0].reshape(x.shape)


def layer_norm(x, weight, bias, eps):
    """Normalise each x[…, :] of C channels -> like x."""
    if cuda.can("layer_norm", x, weight, bias):
        return cuda.layer_norm(x, weight, bias, eps)
    return (layer_norm_fused if can_run(x, weight, bias) else layer_norm_ref)(x, weight, bias, eps)


@in_float32
def layer_norm_ref(x, weight, bias, eps):
    """By Jittor's own operators; takes and returns what `layer_norm` does."""
    centred = x - x.mean(-1, keepdims=True)
    var = (centred * centred).mean(-1, keepdims=True)
    return centred / (var + eps).sqrt() * weight + bias


def layer_norm_fused(x, weight, bias, eps):
    """By `kernels/layer_norm.h`: float32 on the CPU."""
    return _LayerNorm.apply(x, weight, bias, jt.array([eps], dtype="float32").stop_grad())


class _LayerNorm(jt.Function):
    def execute(self, x, weight, bias, eps):
        self.inputs = x, weight, eps
        rows = as_rows(x)
        inputs, outputs = {"x": rows, "weight": weight, "bias": bias, "eps": eps}, {"y": rows.shape}
        source = f"jvan::layer_norm_forward({_SIZES}, {members(*inputs, *outputs)});"
        (y,) = run_named("layer_norm.h", source, inputs, outputs)
        return y.reshape(x.shape)

    def grad(self, dy):
        x, weight, eps = self.inputs
        rows = as_rows(x)
        inputs = {"dy": as_rows(dy), "x": rows, "weight": weight, "eps": eps}
        outputs = {"dx": rows.shape, "dweight": weight.shape, "dbias": weight.shape}
        source = f"jvan::layer_norm_backward({_SIZES}, {members(*inputs, *outputs)});"
        dx, dw, db = run_named("layer_norm.h", source, inputs, outputs)
        return dx.reshape(x.shape), dw, db, None
