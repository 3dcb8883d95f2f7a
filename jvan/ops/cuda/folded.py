"""A folded network's layers (inference.fold) in inference: maps of one type, biases and depthwise taps float32, no gradients."""

from __future__ import annotations

from . import functions as f
from .run import rounded, run

FAMILIES = ("depthwise", "depthwise_gelu", "epilogue", "shortcut", "layer_norm", "patches")

_GATES = {
    "multiply": lambda u, attention: u * attention,
    "add": lambda u, attention: u + attention,
    "sigmoid": lambda u, attention: u * attention.sigmoid(),
    "none": lambda u, attention: attention,
}


def attention(x, block, dilation, gate):
    """x·scale + proj_2(gate(u, conv1(conv_spatial(conv0(u))))) with u = gelu(proj_1(x)), x (N, H, W, C); a layer may be None."""
    rows = _rows(x)
    u = f.add_bias(f.product(rows, block.proj_1.weight), block.proj_1.bias, gelu=True)
    mask = u.reshape(x.shape)
    for layer, spacing in ((block.conv0, 1), (block.conv_spatial, dilation)):
        mask = f.depthwise(mask, layer.weight, layer.bias, spacing) if layer else mask
    out = f.product(_gated(_rows(mask), block.conv1, u, gate), block.proj_2.weight)
    return _shortcut(out, block.proj_2.bias, rows, block.scale).reshape(x.shape)


def feed_forward(x, block):
    """x + fc2(gelu(dwconv(fc1(x)))), x (N, H, W, C)"""
    rows = _rows(x)
    hidden = f.product(rows, block.fc1.weight).reshape((*x.shape[:3], -1))
    hidden = f.depthwise_gelu(hidden, block.fc1.bias, block.dwconv.weight, block.dwconv.bias)
    return _shortcut(f.product(_rows(hidden), block.fc2.weight), block.fc2.bias, rows).reshape(x.shape)


def patch_embed(x, layer, size, stride):
    """A K×K convolution with a stride and half of K as padding: x (N, H, W, C), the layer's weight as functions.patch_weight makes it -> (N, H', W', O)"""
    padding = size // 2
    height, width = ((extent + 2 * padding - size) // stride + 1 for extent in x.shape[1:3])
    y = f.add_bias(f.product(f.patches(x, size, stride, padding), layer.weight), layer.bias)
    return y.reshape((x.shape[0], height, width, -1))


def _gated(rows, conv1, u, gate):
    if conv1 and gate == "multiply":
        return f.gate(f.product(rows, conv1.weight), conv1.bias, u)
    mask = f.add_bias(f.product(rows, conv1.weight), conv1.bias) if conv1 else rows
    return rounded(_GATES[gate](u.float32(), mask.float32()), str(u.dtype))


def _shortcut(p, bias, x, scale=None):
    inputs = [p, bias, bias if scale is None else scale, x]
    return run("shortcut", inputs, [x.shape], scaled=int(scale is not None), slices=f.slices_of(*x.shape))[0]


def _rows(x):
    return x.reshape((-1, x.shape[-1]))
