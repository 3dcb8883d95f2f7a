"""BatchNorm and LayerNorm over the last axis of channels-last maps, with PyTorch's numbers and gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import jittor as jt

from ._half import in_float32
from ._jit import can_run, run_kernel
from .cuda import layers as cuda


class Norm(NamedTuple):
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
    source = "jvan::batch_statistics(in0_p, in0_shape0, in0_shape1, out0_p, out1_p);"
    mean, var = run_kernel("batch_norm.h", source, [x.detach().reshape((-1, chans))], [(chans,)] * 2)
    return mean.stop_grad(), var.stop_grad()


def batch_norm(x, weight, bias, eps):
    """Normalise x (…, C) by the batch's own statistics -> (y, mean, var): y as x, mean and biased var (C,) detached."""
    if cuda.can_batch_norm(x, weight, bias):
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
    mean, var, rstd = Norm(weight, bias, eps).statistics(x)
    return _BatchNorm.apply(x, weight, bias, mean, rstd), mean, var


class _BatchNorm(jt.Function):
    def execute(self, x, weight, bias, mean, rstd):
        self.inputs = x, weight, mean, rstd
        return run_kernel(
            "batch_norm.h",
            "jvan::batch_norm_forward(in0_shape0, in0_shape1, in0_p, in1_p, in2_p, in3_p, in4_p, out0_p);",
            [_rows(x), mean, rstd, weight, bias],
            [_rows(x).shape],
        )[0].reshape(x.shape)

    def grad(self, dy):
        x, weight, mean, rstd = self.inputs
        source = "jvan::batch_norm_sums(in0_shape0, in0_shape1, in0_p, in1_p, in2_p, in3_p, out0_p);"
        (sums,) = run_kernel("batch_norm.h", source, [_rows(dy), _rows(x), mean, rstd], [(2, x.shape[-1])])
        return batch_norm_gradient(dy, x, weight, mean, rstd, sums), sums[1], sums[0], None, None


def batch_norm_gradient(dy, x, weight, mean, rstd, sums, residual=None, constant=False):
    """The gradient of a BatchNorm's input from dy, that of its output, and its sums (2, C) of dy and dy·x̂.

    With `residual`, like x, that much more; `constant` where the statistics do not depend on x.
    """
    source = (
        "jvan::batch_norm_backward(in0_shape0, in0_shape1, in0_p, in1_p, in2_p, in3_p, in4_p, in5_p, "
        "add ? in6_p : nullptr, constant, out0_p);"
    )
    numbers = {"add": residual is not None, "constant": constant}
    inputs = [_rows(dy), _rows(x), mean, rstd, weight, sums, _rows(dy if residual is None else residual)]
    return run_kernel("batch_norm.h", source, inputs, [_rows(x).shape], numbers)[0].reshape(x.shape)


def layer_norm(x, weight, bias, eps):
    """Normalise each x[…, :] of C channels -> like x."""
    if cuda.can_layer_norm(x, weight, bias):
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
        source = "jvan::layer_norm_forward(in0_shape0, in0_shape1, in0_p, in1_p, in2_p, in3_p, out0_p);"
        (y,) = run_kernel("layer_norm.h", source, [_rows(x), weight, bias, eps], [_rows(x).shape])
        return y.reshape(x.shape)

    def grad(self, dy):
        x, weight, eps = self.inputs
        source = (
            "jvan::layer_norm_backward(in0_shape0, in0_shape1, in0_p, in1_p, in2_p, in3_p, out0_p, out1_p, out2_p);"
        )
        inputs = [_rows(dy), _rows(x), weight, eps]
        dx, dw, db = run_kernel("layer_norm.h", source, inputs, [_rows(x).shape, weight.shape, weight.shape])
        return dx.reshape(x.shape), dw, db, None


def _rows(x):
    return x.reshape((-1, x.shape[-1]))
