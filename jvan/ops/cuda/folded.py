"""A folded network's layers (inference.fused.fold) in inference: maps of one type, biases and depthwise taps float32, no gradients."""

from __future__ import annotations

from ..gates import GATES
from ..shapes import as_rows, convolved
from . import functions as f
from .launch import rounded, run

FAMILIES = ("depthwise", "depthwise_gelu", "epilogue", "shortcut", "layer_norm", "patches")


def attention(x, block, dilation, gate):
    """x·scale + proj_2(gate(u, pw(dw_d(dw(u))))) with u = gelu(proj_1(x)), x (N, H, W, C); a layer may be None."""
    rows = as_rows(x)
    u = f.add_bias(f.product(rows, block.proj_1.weight), block.proj_1.bias, gelu=True)
    mask = u.reshape(x.shape)
    for layer, spacing in ((block.dw, 1), (block.dw_d, dilation)):
        mask = f.depthwise(mask, layer.weight, layer.bias, spacing) if layer else mask
    out = f.product(_gated(as_rows(mask), block.pw, u, gate), block.proj_2.weight)
    return _shortcut(out, block.proj_2.bias, rows, block.scale).reshape(x.shape)


def feed_forward(x, block):
    """x + fc2(gelu(dwconv(fc1(x)))), x (N, H, W, C)"""
    rows = as_rows(x)
    hidden = f.product(rows, block.fc1.weight).reshape((*x.shape[:3], -1))
    hidden = f.depthwise_gelu(hidden, block.fc1.bias, block.dwconv.weight, block.dwconv.bias)
    return _shortcut(f.product(as_rows(hidden), block.fc2.weight), block.fc2.bias, rows).reshape(x.shape)


def patch_embed(x, layer, size, stride):
    """A K×K convolution with a stride and half of K as padding: x (N, H, W, C), the layer's weight as functions.patch_weight makes it -> (N, H', W', O)"""
    padding = size // 2
    height, width = convolved(x.shape[1:3], size, stride, padding)
    y = f.add_bias(f.product(f.patches(x, size, stride, padding), layer.weight), layer.bias)
    return y.reshape((x.shape[0], height, width, -1))


def _gated(rows, pw, u, gate):
    if pw and gate == "multiply":
        return f.gate(f.product(rows, pw.weight), pw.bias, u)
    mask = f.add_bias(f.product(rows, pw.weight), pw.bias) if pw else rows
    return rounded(GATES[gate].apply(u.float32(), mask.float32()), str(u.dtype))


def _shortcut(p, bias, x, scale=None):
    inputs = [p, bias, bias if scale is None else scale, x]
    return run("shortcut", inputs, [x.shape], scaled=int(scale is not None), slices=f.slices_of(*x.shape))[0]
