"""A folded network's layers (inference.fused.fold) in inference: maps of one type, biases and depthwise taps float32, no gradients."""

from __future__ import annotations

from ...structure import DEPTHWISE
from ..gates import GATES
from ..shapes import as_rows, convolved
from . import functions as f
from .launch import rounded, run

FAMILIES = ("depthwise", "depthwise_gelu", "epilogue", "shortcut", "layer_norm", "patches")


def attention(x, block, gate):
    """x·scale + proj_2(gate(u, unit(u))) with u = gelu(proj_1(x)), x (N, H, W, C); the unit is depthwise layers, then one product or none."""
    rows = as_rows(x)
    u = f.add_bias(f.product(rows, block.layers["attn.proj_1"].weight), block.layers["attn.proj_1"].bias, gelu=True)
    mask, pw = u.reshape(x.shape), None
    for row, layer in block.unit:
        if row.kind == DEPTHWISE:
            mask = f.depthwise(mask, layer.weight, layer.bias, row.dilation)
        else:
            pw = layer
    proj_2 = block.layers["attn.proj_2"]
    out = f.product(_gated(as_rows(mask), pw, u, gate), proj_2.weight)
    return _shortcut(out, proj_2.bias, rows, block.scale).reshape(x.shape)


def feed_forward(x, block):
    """x + fc2(gelu(dwconv(fc1(x)))), x (N, H, W, C)"""
    rows = as_rows(x)
    fc1, dwconv, fc2 = (block.layers[f"mlp.{name}"] for name in ("fc1", "dwconv.dwconv", "fc2"))
    hidden = f.product(rows, fc1.weight).reshape((*x.shape[:3], -1))
    hidden = f.depthwise_gelu(hidden, fc1.bias, dwconv.weight, dwconv.bias)
    return _shortcut(f.product(as_rows(hidden), fc2.weight), fc2.bias, rows).reshape(x.shape)


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
