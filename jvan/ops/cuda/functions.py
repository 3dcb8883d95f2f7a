"""The CUDA operators as differentiable functions of jt.Var: maps channels-last, float32, float16 or bfloat16, sums float32."""

from __future__ import annotations

import jittor as jt

from ..shapes import convolved
from .backend import backend
from .launch import rounded, run
from .operators import RATES, TILE, groups_of, patch_columns, slices_of


def depthwise(x, weight, bias, dilation=1):
    """x (N, H, W, C), weight (C, 1, K, K), bias (C,) -> like x; see ops.depthwise."""
    return _Depthwise.apply(x, weight, bias, dilation)


def depthwise_gelu(x, input_bias, weight, bias):
    """gelu(depthwise(x + input_bias) + bias), the padding being 0: K = 3, or no size that has its own loop."""
    return _DepthwiseGELU.apply(x, input_bias, weight, bias)


def product(x, weight):
    """x (rows, C) times weight (O, C), transposed -> (rows, O) by cuBLAS; a weight of another type is rounded first."""
    return _Product.apply(x, weight)


def add_bias(p, bias, gelu=False):
    """p (rows, C) + bias (C,), or its GELU."""
    return _Bias.apply(p, bias, gelu)


def gate(p, bias, u):
    """(p + bias) · u"""
    return _Gate.apply(p, bias, u)


def residual(p, bias, inner, scale, keep, x):
    """x + keep·scale·(p + bias + inner): maps (rows, C); keep (N,), a factor for each picture's rows; inner may be None."""
    return _Residual.apply(p, bias, inner, scale, keep.float32().stop_grad(), x)


def statistics(x):
    """Mean and biased variance of each channel of x (rows, C), float32, without gradients."""
    rows, chans = x.shape
    shapes = [(chans,), (chans,), (slices_of(rows, chans), 3, chans)]
    mean, var, _ = run("batch_statistics", [x.detach()], shapes)
    return mean.stop_grad(), var.stop_grad()


def normalise(x, weight, bias, mean, var, eps, constant=False):
    """(x - mean) / sqrt(var + eps) · weight + bias, x (rows, C); `constant` where mean and var do not depend on x."""
    rstd = 1 / (var.float32() + eps).sqrt()
    return _BatchNorm.apply(x, weight, bias, mean.float32().stop_grad(), rstd.stop_grad(), constant)


def layer_norm(x, weight, bias, eps):
    """x (rows, C), each row normalised."""
    return _LayerNorm.apply(x, weight, bias, eps)


def patches(x, size, stride, padding):
    """x (N, H, W, C) -> (N · H' · W', columns), the rows that a strided convolution reads: K · K · C, and zeros."""
    return _Patches.apply(x, size, stride, padding)


def patch_weight(matrix, size):
    """A convolution's weight (O, K · K · C) with as many columns as its `patches` have."""
    more = patch_columns(size, matrix.shape[1] // (size * size)) - matrix.shape[1]
    return jt.concat([matrix, jt.zeros((matrix.shape[0], more), matrix.dtype)], 1) if more else matrix


def adamw(value, gradient, mean, square, rates):
    """See ops.adamw: one launch. All of float32."""
    numbers = dict(zip(RATES, rates))
    with jt.no_grad():  # else the new value would keep the maps behind its gradient, of every step so far
        return run("adamw", [value, gradient, mean, square], [value.shape] * 3, count=value.numel(), **numbers)


class _Depthwise(jt.Function):
    def execute(self, x, weight, bias, dilation):
        self.inputs = x, weight, bias
        self.numbers = {**TILE, "size": weight.shape[2], "dilation": dilation}
        return run("depthwise", [x, weight, bias], [x.shape], reverse=0, **self.numbers)[0]

    def grad(self, dy):
        x, weight, bias = self.inputs
        (dx,) = run("depthwise", [dy, weight, bias], [x.shape], reverse=1, **self.numbers)
        shapes = _weight_shapes(x, weight)
        dw, db, _ = run("depthwise_weights", [x, dy], shapes, parameter=str(weight.dtype), **self.numbers)
        return dx, dw, db, None


class _DepthwiseGELU(jt.Function):
    def execute(self, x, input_bias, weight, bias):
        keep = not jt.flags.no_grad
        self.inputs = x, input_bias, weight, bias
        self.numbers = {**TILE, "size": weight.shape[2], "dilation": 1}
        shapes = [x.shape, x.shape if keep else (1, 1, 1, 1)]
        y, self.before = run("depthwise_gelu", [x, weight, bias, input_bias], shapes, keep=int(keep), **self.numbers)
        return y

    def grad(self, dy):
        x, input_bias, weight, bias = self.inputs
        before, self.before = self.before, None  # freed as soon as used, whatever holds on to this object
        rows = x.numel() // x.shape[-1]
        flat = (rows, x.shape[-1])
        slices = slices_of(*flat)
        (dp,) = run("gelu_backward", [dy.reshape(flat), before.reshape(flat)], [flat], slices=slices)
        dp = dp.reshape(x.shape)
        (dx,) = run("depthwise", [dp, weight, bias], [x.shape], reverse=1, **self.numbers)
        dw, db, _ = run("depthwise_gelu_weights", [x, dp, input_bias], _weight_shapes(x, weight), **self.numbers)
        return dx, _sum(dx.reshape(flat), input_bias), dw, db


def _weight_shapes(x, weight):
    chans, _, size, _ = weight.shape
    return [weight.shape, (chans,), (groups_of(x.shape), size * size + 1, chans)]


class _Product(jt.Function):
    def execute(self, x, weight):
        self.inputs, self.parameter = (x, rounded(weight, x.dtype)), weight.dtype
        return _multiply(*self.inputs, False, True)

    def grad(self, dy):
        x, weight = self.inputs
        return _multiply(dy, weight, False, False), _multiply(dy, x, True, False).cast(self.parameter)


def _multiply(a, b, transpose_a, transpose_b):
    return backend().multiply(a, b, transpose_a, transpose_b)


class _Bias(jt.Function):
    def execute(self, p, bias, gelu):
        self.inputs = (p, bias) if gelu else (None, bias)
        return run("bias", [p, bias], [p.shape], with_gelu=int(gelu), slices=slices_of(*p.shape))[0]

    def grad(self, dy):
        p, bias = self.inputs
        if p is None:
            return dy, _sum(dy, bias), None
        dp, db, _ = run("bias_gelu_backward", [dy, p, bias], [p.shape, bias.shape, _room(p, 1)])
        return dp, db, None


def _sum(dy, bias):
    """The gradient of a bias: sums of dy (rows, C)."""
    return run("bias_backward", [dy], [bias.shape, _room(dy, 1)], parameter=str(bias.dtype))[0]


def _room(x, count):
    return slices_of(*x.shape), count, x.shape[1]


class _Gate(jt.Function):
    def execute(self, p, bias, u):
        self.inputs = p, bias, u
        return run("bias_gate", [p, bias, u], [p.shape], slices=slices_of(*p.shape))[0]

    def grad(self, dy):
        p, bias, u = self.inputs
        shapes = [p.shape, p.shape, bias.shape, _room(p, 1)]
        dp, du, db, _ = run("bias_gate_backward", [dy, p, bias, u], shapes)
        return dp, db, du


class _Residual(jt.Function):
    def execute(self, p, bias, inner, scale, keep, x):
        self.inner = inner is not None
        self.inputs = p, bias, inner if self.inner else p, scale, keep
        inputs = [*self.inputs, x]
        return run("residual", inputs, [x.shape], inner=int(self.inner), slices=slices_of(*x.shape))[0]

    def grad(self, dy):
        p, bias, _inner, scale, _keep = self.inputs
        shapes = [p.shape, bias.shape, scale.shape, _room(p, 2)]
        dp, db, ds, _ = run("residual_backward", [dy, *self.inputs], shapes, inner=int(self.inner))
        return dp, db, dp if self.inner else None, ds, None, dy


class _BatchNorm(jt.Function):
    def execute(self, x, weight, bias, mean, rstd, constant):
        self.inputs, self.constant = (x, mean, rstd, weight), constant
        return run("batch_norm", [x, mean, rstd, weight, bias], [x.shape], slices=slices_of(*x.shape))[0]

    def grad(self, dy):
        x, mean, rstd, weight = self.inputs
        shapes = [x.shape, (2, x.shape[1]), _room(x, 2)]
        constant = int(self.constant)
        dx, sums, _ = run("batch_norm_backward", [dy, x, mean, rstd, weight], shapes, constant=constant)
        db, dw = (sums[i].cast(weight.dtype) for i in range(2))
        return dx, dw, db, None, None, None


class _LayerNorm(jt.Function):
    def execute(self, x, weight, bias, eps):
        self.inputs, self.eps = (x, weight), eps
        return run("layer_norm", [x, weight, bias], [x.shape], eps=eps)[0]

    def grad(self, dy):
        x, weight = self.inputs
        shapes = [x.shape, weight.shape, weight.shape, (x.shape[0], 2), _room(x, 2)]
        dx, dw, db, *_ = run("layer_norm_backward", [dy, x, weight], shapes, eps=self.eps)
        return dx, dw, db, None


class _Patches(jt.Function):
    def execute(self, x, size, stride, padding):
        height, width = convolved(x.shape[1:3], size, stride, padding)
        self.shape, columns = x.shape, patch_columns(size, x.shape[3])
        self.numbers = {"out_height": height, "out_width": width, "size": size, "stride": stride, "padding": padding}
        return run("gather_patches", [x], [(x.shape[0] * height * width, columns)], **self.numbers)[0]

    def grad(self, dy):
        return run("add_patches", [dy], [self.shape], **self.numbers)[0], None, None, None
