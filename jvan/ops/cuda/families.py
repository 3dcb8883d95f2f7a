"""What jvan.ops computes by the CUDA kernels: its layers and the two halves of a block, composed of `functions`."""

from __future__ import annotations

from ..shapes import as_rows, convolved
from . import functions as f
from .launch import can_run

FAMILIES = {
    "adamw": ("adamw",),
    "attention": ("depthwise", "epilogue", "residual", "batch_norm"),
    "batch_norm": ("batch_norm",),
    "conv": ("epilogue", "patches"),
    "depthwise": ("depthwise",),
    "feed_forward": ("depthwise_gelu", "depthwise", "epilogue", "residual", "batch_norm"),
    "layer_norm": ("layer_norm",),
    "pointwise": ("epilogue",),
}


def can(layer: str, x, *parameters) -> bool:
    """Whether the kernels that this layer is composed of can take maps like x and these parameters."""
    return can_run(FAMILIES[layer], x, *parameters)


adamw, depthwise = f.adamw, f.depthwise


def pointwise(x, weight, bias):
    """See ops.pointwise."""
    y = f.add_bias(f.product(as_rows(x), _matrix(weight)), bias)
    return y.reshape([*x.shape[:-1], weight.shape[0]])


def conv(x, weight, bias, stride, padding):
    """See ops.conv."""
    out_chans, _, size, _ = weight.shape
    height, width = convolved(x.shape[1:3], size, stride, padding)
    matrix = f.patch_weight(weight.permute(0, 2, 3, 1).reshape((out_chans, -1)), size)
    y = f.add_bias(f.product(f.patches(x, size, stride, padding), matrix), bias)
    return y.reshape((x.shape[0], height, width, out_chans))


def batch_norm(x, weight, bias, eps):
    """See ops.norm.batch_norm."""
    rows = as_rows(x)
    mean, var = f.statistics(rows)
    return f.normalise(rows, weight, bias, mean, var, eps).reshape(x.shape), mean, var


def layer_norm(x, weight, bias, eps):
    """See ops.norm.layer_norm."""
    return f.layer_norm(as_rows(x), weight, bias, eps).reshape(x.shape)


def attention(x, norm, proj_1, dw, dw_d, dilation, pw, proj_2, scale, keep):
    """See ops.attention: three products, two depthwise convolutions, four passes around them."""
    rows = as_rows(x)
    normal, mean, var = _normalised(rows, norm)
    u = f.add_bias(f.product(normal, _matrix(proj_1[0])), proj_1[1], gelu=True)
    mask = f.depthwise(f.depthwise(u.reshape(x.shape), *dw), *dw_d, dilation)
    gated = f.gate(f.product(as_rows(mask), _matrix(pw[0])), pw[1], u)
    out = f.residual(f.product(gated, _matrix(proj_2[0])), proj_2[1], normal, scale, keep, rows)
    return out.reshape(x.shape), mean, var


def feed_forward(x, norm, fc1, dw, fc2, scale, keep):
    """See ops.feed_forward: two products, and one pass over the wide map between them."""
    rows = as_rows(x)
    normal, mean, var = _normalised(rows, norm)
    hidden = f.product(normal, _matrix(fc1[0])).reshape((*x.shape[:3], -1))
    hidden = f.depthwise_gelu(hidden, fc1[1], *dw)
    out = f.residual(f.product(as_rows(hidden), _matrix(fc2[0])), fc2[1], None, scale, keep, rows)
    return out.reshape(x.shape), mean, var


def _normalised(rows, norm):
    mean, var = (norm.mean.detach(), norm.var.detach()) if norm.constant else f.statistics(rows)
    return f.normalise(rows, norm.weight, norm.bias, mean, var, norm.eps, norm.constant), mean, var


def _matrix(weight):
    return weight.reshape(weight.shape[:2])
